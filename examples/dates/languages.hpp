// SPDX-License-Identifier: MIT
#pragma once
// The words of seven languages, folded to ASCII: months, weekdays, and what stands around dates.
#include <array>
#include <cstddef>
#include <string_view>

namespace dates {

// any: numbers alone; what stands around them is English.
enum class Locale { any, english, german, french, spanish, italian, dutch, portuguese };

struct Language {
  // 12 months and 7 weekdays, Monday first; '/' between spellings of the same.
  std::string_view months, short_months, weekdays, short_weekdays;
  // Patterns of templates.hpp, with '|' between them; those after the date bring their own comma
  // or space. A number comes with the word that says what it counts, and a comma or colon parts
  // it from the date. Words of no language, and %w, stand beside years of four digits only.
  std::string_view before, after;
  std::string_view towns;  // with '|' between them
};

inline constexpr Language kEnglish{
    "January February March April May June July August September October November December",
    "Jan Feb Mar Apr May Jun Jul Aug Sep/Sept Oct Nov Dec",
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "Mon Tue/Tues Wed Thu/Thur/Thurs Fri Sat Sun",
    "on|due|due on|due:|date:|invoice of|invoice,|meeting on|meeting|meeting:|dated|paid|paid on|"
    "by|until|since|from|born|born on|delivery|arrival|expires|last seen|ref. %2:|room %2,|"
    "item %2:|gate %1,|page %2:|no. %2,|deadline|deadline:|birthday|wedding on|party on|start:|"
    "starts|ends|end:|signed|sent|sent on|received|posted on|updated|as of|effective|valid until|"
    "expiry:|check-in|departs|return|closed on|opened|exam on|written on|issued|begins|renewal|"
    "payment due|%c -|%c:|order no. %5 of|ref. %4:|contract %4/%2:|bill no. %5 -|"
    "order %4/%2:|[%2]|<%2>|%2)|#%2:|log:|%s:|%s -|%w[%4]:|%t -|%T -|%T,|file %5:|case %3/%2:|"
    "%r|%r:|%r -|[%r]|%w %w|%w on|%r %w|%r from",
    " at %t| at %t|, %t h|, room %2|, gate %1|, page %2|, item %2| please| (draft)| in %c|, %c|"
    " - urgent| confirmed|; thanks| - %s| for %s| ok|, %T| (%T)| - %T|, order %4|; ref. %5|"
    " %c office|"
    " %r| [%r]| %w %w|, %r|; %r %2| - %w %r|.%r| (%r)| %r: %w",
    "Liverpool|Glasgow|Belfast|Brighton|Cambridge|Plymouth|Bath|Hull|Norwich|Galway|Cork|Houston|"
    "Dallas|Atlanta|Portland|San Francisco|Perth|Sydney|Melbourne|Toronto|Ottawa|Auckland"};

inline constexpr Language kGerman{
    "Januar/Jaenner Februar Maerz/Marz April Mai Juni Juli August September Oktober November "
    "Dezember",
    "Jan Feb Mrz/Maer Apr Mai Jun Jul Aug Sep/Sept Okt Nov Dez",
    "Montag Dienstag Mittwoch Donnerstag Freitag Samstag/Sonnabend Sonntag",
    "Mo Di Mi Do Fr Sa So",
    "Termin|Termin:|Datum:|Rechnung,|bis|faellig|geboren|Zimmer %2,|Seite %2:|ab|am|gueltig bis|"
    "Lieferung|Abgabe:|Beginn:|Ende:|Stand:|%c:|%c -|Bestellung %5 vom|Vertrag Nr. %4 vom|"
    "Auftrag Nr. %4/%2 vom|Az. %3/%2:|%s:|%T,|Urlaub ab|"
    "%l,|%l,|%r|%r:|%r,",
    " um %t| um %t|, Zimmer %2|, Seite %2| bitte| in %c| - %s|, %T| (%c)|, Auftrag %4|"
    " %r|, %r| - %r| (%r)",
    "Berlin|Wien|Leipzig|Bremen|Nuernberg|Frankfurt|Mannheim|Salzburg|Linz|Basel|Luzern|Hannover|"
    "Jena|Ulm|Trier|Bad Homburg|St. Gallen|Erfurt|Kassel|Innsbruck|Potsdam|Rostock"};

inline constexpr Language kFrench{
    "janvier fevrier mars avril mai juin juillet aout septembre octobre novembre decembre",
    "janv fev/fevr mars avr mai juin juil aout sept oct nov dec",
    "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "lun mar mer jeu ven sam dim",
    "date:|facture:|facture,|reunion,|rendez-vous|avant|chambre %2,|page %2:|valable jusqu'au|"
    "livraison,|debut :|fin :|fait :|%c :|%c -|commande %5 du|contrat no %4 du|"
    "dossier no %4/%2 du|%s :|%T,|depuis|a partir du|"
    "%l,|%l,|%r|%r :|%r,",
    " a %t| a %t|, chambre %2|, page %2| svp| a %c| - %s|, %T| (%c)|, dossier %4|"
    " %r|, %r| - %r| (%r)",
    "Paris|Lyon|Nice|Strasbourg|Bruxelles|Lausanne|Montreal|Angers|Brest|Reims|Tours|Rouen|Amiens|"
    "Avignon|Namur|Limoges|Le Havre|La Rochelle|Nancy|Caen|Pau|Aix"};

inline constexpr Language kSpanish{
    "enero febrero marzo abril mayo junio julio agosto septiembre/setiembre octubre noviembre "
    "diciembre",
    "ene feb mar abr may jun jul ago sep/sept oct nov dic",
    "lunes martes miercoles jueves viernes sabado domingo",
    "lun mar mie jue vie sab dom",
    "fecha:|factura:|factura,|reunion,|cita|hasta|sala %2,|pagina %2:|valido hasta|entrega:|"
    "inicio:|fin:|%c:|%c -|pedido %5 de|contrato n. %4 de|expediente n. %4/%2 de|%s:|%T,|desde|"
    "a partir de|"
    "%l,|%l,|%r|%r:|%r,",
    " a las %t| a las %t|, sala %2|, pagina %2| por favor| en %c| - %s|, %T| (%c)|, pedido %4|"
    " %r|, %r| - %r| (%r)",
    "Madrid|Barcelona|Malaga|Bogota|Salamanca|Burgos|Oviedo|Cadiz|Leon|Alicante|Buenos Aires|La "
    "Paz|San Juan|Montevideo|Gijon|Pamplona|Merida|Huelva|Santander|Vigo|Las Palmas|Santiago"};

inline constexpr Language kItalian{
    "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre "
    "dicembre",
    "gen feb mar apr mag giu lug ago set/sett ott nov dic",
    "lunedi martedi mercoledi giovedi venerdi sabato domenica",
    "lun mar mer gio ven sab dom",
    "data:|fattura:|fattura,|riunione|entro|sala %2,|pagina %2:|valido fino al|consegna:|inizio:|"
    "fine:|%c:|%c -|ordine %5 del|contratto n. %4 del|pratica n. %4/%2 del|%s:|%T,|dal|"
    "a partire dal|"
    "%l,|%l,|%r|%r:|%r,",
    " alle %t| alle %t|, sala %2|, pagina %2| per favore| a %c| - %s|, %T| (%c)|, ordine %4|"
    " %r|, %r| - %r| (%r)",
    "Roma|Milano|Bari|Catania|Padova|Parma|Modena|Siena|Lecce|Como|Bergamo|Perugia|Ravenna|Udine|"
    "La Spezia|Reggio Emilia|Lucca|Ancona|Trento|Cagliari|Messina|Ferrara"};

inline constexpr Language kDutch{
    "januari februari maart april mei juni juli augustus september oktober november december",
    "jan feb mrt apr mei jun jul aug sep/sept okt nov dec",
    "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
    "ma di wo do vr za zo",
    "datum:|factuur:|factuur,|vergadering|afspraak|kamer %2,|pagina %2:|geldig tot|levering:|"
    "begin:|einde:|%c:|%c -|bestelling %5 van|contract nr. %4 van|dossier nr. %4/%2 van|%s:|%T,|"
    "vanaf|sinds|"
    "%l,|%l,|%r|%r:|%r,",
    " om %t| om %t|, kamer %2|, pagina %2| graag| in %c| - %s|, %T| (%c)|, bestelling %4|"
    " %r|, %r| - %r| (%r)",
    "Utrecht|Haarlem|Groningen|Arnhem|Nijmegen|Tilburg|Antwerpen|Leuven|Maastricht|Almere|Enschede|"
    "Den Bosch|Alkmaar|Gouda|Hoorn|Deventer|Mechelen|Oostende|Bergen op Zoom|Assen|Hasselt|Venlo"};

inline constexpr Language kPortuguese{
    "janeiro fevereiro marco abril maio junho julho agosto setembro outubro novembro dezembro",
    "jan fev mar abr mai jun jul ago set out nov dez",
    "segunda-feira/segunda terca-feira/terca quarta-feira/quarta quinta-feira/quinta "
    "sexta-feira/sexta sabado domingo",
    "seg ter qua qui sex sab dom",
    "data:|fatura:|fatura,|reuniao|vence|sala %2,|pagina %2:|valido ate|entrega:|inicio:|fim:|"
    "%c:|%c -|encomenda %5 de|contrato n. %4 de|processo n. %4/%2 de|%s:|%T,|desde|a partir de|"
    "%l,|%l,|%r|%r:|%r,",
    " as %t| as %t|, sala %2|, pagina %2| por favor| em %c| - %s|, %T| (%c)|, encomenda %4|"
    " %r|, %r| - %r| (%r)",
    "Lisboa|Porto|Viseu|Sintra|Leiria|Beja|Guarda|Tomar|Cascais|Salvador|Brasilia|Manaus|Fortaleza|"
    "Porto Alegre|Belo Horizonte|Santarem|Portimao|Luanda|Maputo|Rio de Janeiro|Belem|Olhao"};

[[nodiscard]] constexpr const Language& language(Locale locale) {
  constexpr std::array<const Language*, 8> languages{&kEnglish, &kEnglish, &kGerman, &kFrench,
                                                     &kSpanish, &kItalian, &kDutch,  &kPortuguese};
  return *languages[static_cast<std::size_t>(locale)];
}

// None is a month or a weekday in any of the languages.
inline constexpr std::string_view kWords =
    "meeting invoice report lunch dinner delivery ticket payment order draft review budget team "
    "office hotel flight train garden paper window river music coffee number letter answer again "
    "soon later never maybe please thanks urgent open closed new old green blue small large quiet "
    "check send bring call read write with without before after about under the and rechnung "
    "termin facture reunion factura riunione afspraak fatura";
inline constexpr std::string_view kNames =
    "Keller Smith Rossi Garcia Dubois Jansen Silva Brown Novak Meyer Clark Lopez Bianchi Bakker "
    "Martin Fischer";
inline constexpr std::string_view kCities =
    "Paris Berlin Madrid Rome Lisbon Utrecht London Boston Vienna Lyon Porto Milan";

}  // namespace dates

// SPDX-License-Identifier: MIT
#pragma once
// Dates as programs, letters and invoices write them, that training never meets: neither these
// patterns nor others that make the same texts. Each says whether it holds a date, which is then to
// be read to the day, or not enough for one, and then nothing may be read. The fields are those of
// templates.hpp. Nothing is added to a text, and a text of more than kMaxLength characters is none.
//   There are two sets. How the first is read was known to whoever wrote today's templates, some of
// which were written to mend it. The second was written before these templates were, by the same
// hand, and no model had read it when the shipped weights were done.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "calendar.hpp"   // Date, days_in_month
#include "dice.hpp"       // Dice
#include "languages.hpp"  // Locale
#include "noise.hpp"      // kMaxLength
#include "phrases.hpp"    // Phrase, Kind
#include "render.hpp"     // render

namespace dates {

enum class HeldOut { first, second };

struct HeldOutFormat {
  HeldOut set;
  std::string_view name;
  Locale locale;
  bool holds_date;
  std::string_view patterns;  // with '|' between them
};

inline constexpr std::array<HeldOutFormat, 59> kHeldOutFormats{{
    {HeldOut::first, "RFC 5322, mail", Locale::english, true,
     "%k, %d %i %Y %T %z|%k, %D %i %Y %T %z|%d %i %Y %T %z|Date: %k, %d %i %Y %T %z|"
     "%k, %D %i %Y %T GMT"},
    {HeldOut::first, "RFC 3339, UTC", Locale::english, true,
     "%Y-%N-%DT%TZ|%Y-%N-%DT%T.%0Z|%Y-%N-%Dt%Tz"},
    {HeldOut::first, "RFC 3339, offset", Locale::english, true,
     "%Y-%N-%DT%T%Z|%Y-%N-%DT%T.%3%Z|%Y-%N-%D %T%Z"},
    {HeldOut::first, "ISO 8601, basic", Locale::english, true,
     "%Y%N%DT%h%m%mZ|%Y%N%DT%h%m|%Y%N%DT%h%m%m%z|%Y%N%DT%h%m%m"},
    {HeldOut::first, "ISO 8601, ordinal", Locale::english, false,
     "%Y-%j|%Y%j|%Y-%jT%TZ|%Y-%jT%h:%m"},
    {HeldOut::first, "ISO 8601, week", Locale::english, false,
     "%Y-W%W-%u|%YW%W%u|%Y-W%W|%Y-W%W-%uT%h:%m"},
    {HeldOut::first, "syslog, RFC 3164", Locale::english, false,
     "%i %e %T %s sshd[%4]:|%i %e %T web1 su:|<%2>%i %e %T mymachine|%i %e %T localhost kernel:"},
    {HeldOut::first, "syslog, RFC 5424", Locale::english, true,
     "<%2>1 %Y-%N-%DT%T.%3Z host|<%2>1 %Y-%N-%DT%T%Z|%Y-%N-%DT%T.%3%Z host su"},
    {HeldOut::first, "Apache, access log", Locale::english, true,
     "[%D/%i/%Y:%T %z]|%D/%i/%Y:%T %z|- - [%D/%i/%Y:%T %z]|::1 - - [%D/%i/%Y:%T %z]"},
    {HeldOut::first, "Apache, error log", Locale::english, true,
     "[%k %i %D %T %Y]|[%k %i %D %T.%3%3 %Y]|[%k %i %D %T %Y] [error]"},
    {HeldOut::first, "git log", Locale::english, true,
     "Date:   %k %i %d %T %Y %z|%k %i %d %T %Y %z|Date: %k %i %d %T %Y %z"},
    {HeldOut::first, "git log --date=iso", Locale::english, true,
     "Date:   %Y-%N-%D %T %z|%Y-%N-%D %T %z"},

    {HeldOut::first, "letters, English", Locale::english, true,
     "Bristol, %B %d, %Y|Leeds, %d %B %Y|Chicago, %A, %B %d, %Y|York, %o %B %Y|Oxford, the %o of "
     "%B "
     "%Y"},
    {HeldOut::first, "letters, German", Locale::german, true,
     "Hamburg, den %d. %B %Y|Muenchen, %D.%N.%Y|Koeln, den %D.%N.%Y|Bonn, am %d. %B %Y|"
     "Zuerich, %d. %B %Y"},
    {HeldOut::first, "letters, French", Locale::french, true,
     "Nantes, le %o %B %Y|Toulouse, le %D/%N/%Y|Lille, %d %B %Y|Geneve, le %D.%N.%Y|"
     "Dijon, le %A %o %B %Y"},
    {HeldOut::first, "letters, Spanish", Locale::spanish, true,
     "Sevilla, %d de %B de %Y|Bilbao, a %d de %B de %Y|Toledo, %D/%N/%Y|Lima, el %d de %B de %Y"},
    {HeldOut::first, "letters, Italian", Locale::italian, true,
     "Torino, %d %B %Y|Napoli, li %d %B %Y|Genova, %D/%N/%Y|Bologna, il %o %B %Y"},
    {HeldOut::first, "letters, Dutch", Locale::dutch, true,
     "Rotterdam, %d %B %Y|Delft, %D-%N-%Y|Leiden, %A %d %B %Y|Gent, %d-%n-%Y"},
    {HeldOut::first, "letters, Portuguese", Locale::portuguese, true,
     "Coimbra, %d de %B de %Y|Braga, %D/%N/%Y|Faro, em %d de %B de %Y|Recife, %D de %B de %Y"},

    {HeldOut::first, "invoices, English", Locale::english, true,
     "Invoice no. %4 of %d %B %Y|Invoice date: %d %B %Y|Invoice %4/%2, %B %d, %Y|"
     "Payable by %B %d, %Y|Invoice date %Y-%N-%D"},
    {HeldOut::first, "invoices, German", Locale::german, true,
     "Rechnung Nr. %4 vom %d. %B %Y|Rechnungsdatum: %D.%N.%Y|Rechnung %4/%2 vom %D.%N.%Y|"
     "Zahlbar bis %D.%N.%Y|Rechnungsdatum %d. %B %Y"},
    {HeldOut::first, "invoices, French", Locale::french, true,
     "Facture no %4 du %d %B %Y|Date de facture : %D/%N/%Y|Facture no %4 du %D/%N/%Y|"
     "A payer avant le %d %B %Y|Date d'echeance : %D/%N/%Y"},
    {HeldOut::first, "invoices, Spanish", Locale::spanish, true,
     "Factura n. %4 de %d de %B de %Y|Fecha de factura: %D/%N/%Y|Factura %4/%2 del %D/%N/%Y|"
     "A pagar antes del %d de %B de %Y"},
    {HeldOut::first, "invoices, Italian", Locale::italian, true,
     "Fattura n. %4 del %D/%N/%Y|Data fattura: %D/%N/%Y|Fattura n. %4 del %d %B %Y|"
     "Da pagare entro il %d %B %Y|Scadenza fattura: %D/%N/%Y"},
    {HeldOut::first, "invoices, Dutch", Locale::dutch, true,
     "Factuur nr. %4 van %d %B %Y|Factuurdatum: %D-%N-%Y|Factuur %4/%2 van %d-%n-%Y|"
     "Te betalen voor %d %B %Y|Factuurdatum %d %B %Y"},
    {HeldOut::first, "invoices, Portuguese", Locale::portuguese, true,
     "Fatura n. %4 de %d de %B de %Y|Data da fatura: %D/%N/%Y|Fatura %4/%2 de %D/%N/%Y|"
     "A pagar ate %d de %B de %Y|Data de emissao: %D/%N/%Y"},

    {HeldOut::second, "HTTP, headers", Locale::english, true,
     "Expires: %k, %D %i %Y %T GMT|expires=%k, %D-%i-%Y %T GMT|Server-Date: %D %i %Y %T GMT"},
    {HeldOut::second, "mail, other headers", Locale::english, true,
     "Resent-Date: %d %i %Y %T %z|; %k, %d %i %Y %T %z (CET)|by mx1; %k, %d %i %Y %T %z|"
     "Sent: %k, %d %i %Y %T %z"},
    {HeldOut::second, "mail, replies", Locale::english, true,
     "On %d %i %Y, at %h:%m, %s wrote:|On %k, %i %d, %Y at %h:%m, %s|Sent: %d %B %Y %h:%m|"
     "Sent: %A, %B %d, %Y %h:%m|From joe %k %i %e %T %Y"},
    {HeldOut::second, "mail, replies in six languages", Locale::english, true,
     "Am %D.%N.%Y um %h:%m schrieb %s:|Le %D/%N/%Y a %h:%m, %s a ecrit :|"
     "El %D/%N/%Y a las %h:%m, %s dijo:|Il %D/%N/%Y %h:%m, %s ha scritto:|"
     "Op %D-%N-%Y om %h:%m schreef %s:|Em %D/%N/%Y as %h:%m, %s escreveu:"},
    {HeldOut::second, "date, ctime", Locale::english, true,
     "%k %i %e %T UTC %Y|%k %i %e %T %Y|%k %i %D %T GMT %Y|now: %k %i %e %T CET %Y"},
    {HeldOut::second, "hg, svn, cvs", Locale::english, true,
     "date: %k %i %D %T %Y %z|Last Changed Date: %Y-%N-%D %T|date: %Y/%N/%D %T;  author: joe|"
     "$Date: %Y/%N/%D %T $|joe, %Y-%N-%D %T %z"},
    {HeldOut::second, "git, blame and others", Locale::english, true,
     "(joe %Y-%N-%D %T %z 12)|4f2a91c %Y-%N-%D %T %z|Date:   %k, %d %i %Y %T %z|"
     "tagged %k %i %d %T %Y %z"},
    {HeldOut::second, "nginx, error log", Locale::english, true,
     "%Y/%N/%D %T [error] %4#0:|%Y/%N/%D %T [warn] %3#%3: *%2|%Y/%N/%D %T [notice] %5#0:"},
    {HeldOut::second, "other access logs", Locale::english, true,
     "10.0.0.7 - joe [%D/%i/%Y:%T %z]|[%D/%i/%Y:%T.%3] http-in|web1 [%D/%i/%Y:%T %z] GET|"
     "#Date: %Y-%N-%D %T|%Y-%N-%D %T GET /index.html"},
    {HeldOut::second, "Apache, other error logs", Locale::english, true,
     "[%k %i %D %T.%3%3 %Y] [php]|[%k %i %D %T %Y] [notice]|[%k %i %D %T %Y] [client"},
    {HeldOut::second, "logs of programs", Locale::english, true,
     "%Y-%N-%D %T,%3 INFO main|%Y-%N-%D %T.%3 UTC [%4] LOG:|%D-%i-%Y %T.%3 INFO [main]|"
     "%i %D, %Y %T PM run|%4:M %D %i %Y %T.%3 * Ready|E, [%Y-%N-%DT%T.%3%3 #%4]"},
    {HeldOut::second, "kernel and journal", Locale::english, true,
     "[%k %i %e %T %Y] usb 1-1: reset|since %k %Y-%N-%D %T CET|%k %Y-%N-%D %T UTC; 2h ago|"
     "-- Reboot: %k %Y-%N-%D %T --"},
    {HeldOut::second, "syslog, with a year", Locale::english, true,
     "%i %e %Y %T: %%SYS-5-RELOAD:|<%2>%i %e %Y %T asa1 :|<%2>1 %Y-%N-%DT%TZ router app|"
     "%Y-%N-%DT%T.%3%3%Z box sshd"},
    {HeldOut::second, "syslog and files, no year", Locale::english, false,
     "%i %e %T host2 CRON[%5]:|%i %D %T router dhcpd:|<%2>%i %e %T 10.0.0.7 su:|"
     "joe %4 %i %e %h:%m notes.txt|%k %i %e %T cron"},
    {HeldOut::second, "files and folders", Locale::english, true,
     "root %4 %i %e  %Y notes.txt|-rw-r--r-- 1 joe joe %3 %i %e  %Y|%Y-%N-%D %h:%m notes.txt|"
     "%D.%N.%Y  %h:%m  <DIR>|%N/%D/%Y  %h:%m  <DIR>"},
    {HeldOut::second, "ISO 8601 basic, names, calendars", Locale::english, true,
     "DTSTART:%Y%N%DT%h%m%mZ|DTSTART;VALUE=DATE:%Y%N%D|UNTIL=%Y%N%DT%h%m%mZ|backup-%Y%N%D.tar.gz|"
     "IMG_%Y%N%D_%h%m%m.jpg|db-%Y%N%DT%h%m%m.sql"},
    {HeldOut::second, "ISO 8601 in sentences", Locale::english, true,
     "we meet on %Y-%N-%D at noon|it runs from %Y-%N-%DT%h:%m on|due %Y-%N-%D (draft 2)|"
     "as of %Y-%N-%DT%h:%mZ|report_%Y-%N-%D.pdf|the deadline is %Y-%N-%D, sharp"},
    {HeldOut::second, "ISO 8601 weeks in sentences", Locale::english, false,
     "in %Y-W%W, as planned|due on %Y-W%W-%u at noon|sprint %Y-W%W starts|%YW%W%u.log|"
     "week %YW%W of the plan|we meet on %Y-W%W-%u"},
    {HeldOut::second, "ISO 8601 ordinal in sentences", Locale::english, false,
     "sent on %Y-%j|tape %Y%j, side B|since %Y-%jT%TZ|day %Y-%j of the plan|image_%Y%j.tif"},

    {HeldOut::second, "letters, English", Locale::english, true,
     "Manchester, %o %B %Y|Dublin, %B %o, %Y|Exeter, %A %d %B %Y|Given at Edinburgh, %d %B %Y|"
     "Seattle, WA, %B %d, %Y|Cardiff, %d %b %Y"},
    {HeldOut::second, "letters, German", Locale::german, true,
     "Stuttgart, %d. %B %Y|Dresden, den %d.%n.%Y|Graz, am %D.%N.%Y|Freiburg, %A, %d. %B %Y|"
     "Bern, den %d. %p %Y|Kiel, %D.%N.%Y"},
    {HeldOut::second, "letters, French", Locale::french, true,
     "Marseille, le %o %B %Y|Bordeaux, le %D/%N/%Y|Fait a Rennes, le %d %B %Y|"
     "Grenoble, ce %d %B %Y|Liege, le %A %o %B %Y|Metz, %D/%N/%Y"},
    {HeldOut::second, "letters, Spanish", Locale::spanish, true,
     "Valencia, %d de %B de %Y|Zaragoza, a %D/%N/%Y|En Granada, a %d de %B de %Y|"
     "Quito, %A %d de %B de %Y|Murcia, %D-%N-%Y|Cordoba, %d/%n/%Y"},
    {HeldOut::second, "letters, Italian", Locale::italian, true,
     "Firenze, %d %B %Y|Venezia, li %D/%N/%Y|Palermo, il %d %B %Y|Verona, %A %d %B %Y|"
     "Trieste, %d/%n/%Y|Pisa, %D.%N.%Y"},
    {HeldOut::second, "letters, Dutch", Locale::dutch, true,
     "Amsterdam, %d %B %Y|Den Haag, %A %d %B %Y|Eindhoven, %D-%N-%Y|Breda, %d-%n-%Y|"
     "Brugge, op %d %B %Y|Zwolle, %d %p %Y"},
    {HeldOut::second, "letters, Portuguese", Locale::portuguese, true,
     "Aveiro, %d de %B de %Y|Evora, %D/%N/%Y|Funchal, aos %d de %B de %Y|"
     "Curitiba, %A, %d de %B de %Y|Setubal, em %D/%N/%Y|Sao Paulo, %d de %B de %Y"},

    {HeldOut::second, "invoices, English", Locale::english, true,
     "Credit note %4 of %d %B %Y|Statement no. %3 of %B %d, %Y|Tax point: %d %B %Y|"
     "Receipt #%5, %Y-%N-%D|Amount due by %B %o, %Y|Bill %4/%2 dated %d %b %Y|Due date: %N/%D/%Y"},
    {HeldOut::second, "invoices, German", Locale::german, true,
     "Gutschrift Nr. %4 vom %d. %B %Y|Mahnung vom %D.%N.%Y|Lieferschein %4/%2 vom %D.%N.%Y|"
     "Leistungsdatum: %D.%N.%Y|Angebot Nr. %3 vom %d.%n.%Y|Valuta %d. %B %Y|"
     "Quittung %5, %D.%N.%Y"},
    {HeldOut::second, "invoices, French", Locale::french, true,
     "Avoir no %4 du %D/%N/%Y|Devis no %3 du %d %B %Y|Date d'emission : %D/%N/%Y|"
     "A regler le %d %B %Y|Recu %4/%2 du %d/%n/%Y|Releve du %o %B %Y"},
    {HeldOut::second, "invoices, Spanish", Locale::spanish, true,
     "Recibo n. %4 de %d de %B de %Y|Albaran %4/%2 del %D/%N/%Y|Fecha de emision: %D/%N/%Y|"
     "Vence el %d de %B de %Y|Presupuesto n. %3 del %d/%n/%Y|Pagado el %D/%N/%Y"},
    {HeldOut::second, "invoices, Italian", Locale::italian, true,
     "Ricevuta n. %4 del %D/%N/%Y|Bolla %4/%2 del %d %B %Y|Data di emissione: %D/%N/%Y|"
     "Pagamento entro il %d %B %Y|Preventivo n. %3 del %d/%n/%Y|Pagato il %D/%N/%Y"},
    {HeldOut::second, "invoices, Dutch", Locale::dutch, true,
     "Kwitantie nr. %4 van %d %B %Y|Offerte %4/%2 van %D-%N-%Y|Vervaldatum: %D-%N-%Y|"
     "Betalen op %d %B %Y|Creditnota nr. %3 van %d-%n-%Y|Betaald op %D-%N-%Y"},
    {HeldOut::second, "invoices, Portuguese", Locale::portuguese, true,
     "Recibo n. %4 de %d de %B de %Y|Orcamento %4/%2 de %D/%N/%Y|Data de vencimento: %D/%N/%Y|"
     "Pagar ate %d de %B de %Y|Nota n. %3 de %d/%n/%Y|Pago em %D/%N/%Y"},
}};

// The years go through the centuries, and are those of training as well as those of the test.
[[nodiscard]] inline Phrase held_out_phrase(const HeldOutFormat& format, std::uint64_t index) {
  constexpr std::uint64_t seed = 3, centuries = (kLastYear + 1 - kFirstYear) / 100;
  constexpr std::uint32_t stream = 0xF0;
  const auto place = static_cast<std::uint32_t>(&format - kHeldOutFormats.data());
  Dice dice(seed, stream + place, index);
  const int year = kFirstYear + 100 * static_cast<int>(index % centuries) + dice.below(100);
  const int month = dice.between(1, 12);
  const Date date{year, month, dice.between(1, days_in_month(year, month))};
  std::string text;
  do text = render(dice.one_of(format.patterns, '|'), format.locale, date, dice);
  while (text.size() > kMaxLength);
  return {text, format.holds_date ? std::optional(date) : std::nullopt, -1,
          format.holds_date ? Kind::date : Kind::code};
}

}  // namespace dates

// SPDX-License-Identifier: MIT
#pragma once
// The ways to write a date, or something that is none, and which of them are for training.
//   Of the date, after strftime:
//     %d 5     %D 05    %e " 5"    %o 5th, in the language's manner
//     %n 3     %N 03    %B March   %b Mar    %p Mar., but May    %i Mar, the first three letters
//     %y 99    %Y 1999  %A Friday  %a Fri    %k Fri, the first three letters
//   Of anything else:
//     %1 %2 %3 %5 a number of up to 1, of up to 2, of 3 and of 5 digits    %7 a digit    %0 two    %% %
//     %4 four digits, a year of the same split or more than a year    %9 four that are no year
//     %t 12:30    %T 12:30:45    %h %m 12 and 30    %z +0100    %Z +01:00
//     %W %u a week and its day    %j the day of the year    (for the formats of held_out.hpp)
//     %w a word    %r a word of no language    %s a surname    %c a city
//     %l a town of the language, or a word of none
// Rules that every template keeps: four-digit years stand first or last, as they are; two-digit
// ones are 1950 to 2049. Between numbers '.' and '-' are day-first, and '/' is month-first, but
// day-first beside words of another language than English and behind a town and a comma, as letters
// begin; all unless a four-digit year comes first. Beside words that do not say that it is one, three numbers with a year of two digits are no date.
#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "dice.hpp"       // item
#include "languages.hpp"  // Locale

namespace dates {

enum class Split { train, test };

// What a text holds. First the kinds of template: dates, valid or not; dates that lack a year, a
// month or a day; numbers that say what else they are; and words. Then what becomes of a template
// for dates: a day that is none, or a year of three digits, of five, or before 1000 or after 2999.
enum class Kind {
  date,
  incomplete,
  year,
  version,
  amount,
  phone,
  page,
  code,
  other,
  impossible,
  three_digits,
  five_digits,
  far_year
};
inline constexpr std::size_t kTemplateKinds = 9;
inline constexpr std::array<std::string_view, 13> kKindNames{"dates",
                                                             "no year, month or day",
                                                             "years",
                                                             "versions",
                                                             "amounts",
                                                             "telephone numbers",
                                                             "places",
                                                             "other numbers",
                                                             "words",
                                                             "no such day",
                                                             "years of three digits",
                                                             "years of five digits",
                                                             "years before 1000 or after 2999"};

struct Template {
  Split split;
  Kind kind;
  Locale locale;
  std::string_view pattern;
  int group = 0;  // of kTemplateGroups
};

namespace detail {

struct TemplateGroup {
  Kind kind;
  Locale locale;
  std::string_view train, test;  // with '|' between the patterns
};

// The test patterns are new as wholes, and so is each text that they make, before noise: no pattern
// for training makes the same but for the digits and the names, of whatever language. Their fields
// and words occur in training in the same language, their punctuation in some language.
inline constexpr TemplateGroup kTemplateGroups[] = {
    {Kind::date, Locale::any,
     "%d.%n.%y|%D.%N.%Y|%D.%N.%y|%d.%n.%Y|%d. %n. %Y|%d.%n.'%y|%n/%d/%y|%N/%D/%Y|%N/%D/%y|"
     "%n/%d/%Y|%n / %d / %Y|%Y-%N-%D|%Y/%N/%D|%Y-%n-%d|%Y%N%D|%D-%N-%Y|%d-%n-%Y|%d - %n - %Y|"
     "%d. %n. '%y|%n / %d / '%y|%d - %n - %y|%Y - %N - %D|%d-%n-%y|%D-%N-%y",
     "%d. %n. %y|%d - %n - '%y|%n/%d/'%y|%n / %d / %y|%Y.%N.%D|%Y / %N / %D|%d.%n. %Y|%d-%n-'%y"},
    {Kind::date, Locale::any,
     "%Y/%N/%D %T|%D.%N.%Y %T|%d.%n.%Y, %t|%n/%d/%Y %T|%Y-%N-%D, %T|%Y-%N-%D_%T|%Y-%N-%D-%t|"
     "%Y-%N-%D @ %t|%Y/%N/%DT%T|%Y.%N.%DT%T%Z|%D.%N.%YT%TZ|%D-%N-%YT%T.%3|%Y/%N/%D %TZ|"
     "%Y/%N/%D %T.%3Z|%Y/%N/%D %T %z|%Y.%N.%D %T UTC|%Y%N%D-%h%m%m|%Y%N%D_%h%m%m|%Y%N%D_%T|"
     "%Y%N%D %TZ|%Y%N%D-%t|%Y%N%DT%T|%Y%N%DT%TZ|%Y%N%DT%t|%Y%N%DT%h|%Y%N%DT%T%Z|%Y%N%DT%T.%3|"
     "%Y%N%D %h%m%mZ|%Y%N%D 0%7%m|%Y%N%D.%h%m%m|%Y%N%D-0%7%m|%Y%N%D_0%7%mZ|%Y%N%DZ|"
     "%Y%N%D %h%m%m%z|%Y%N%D-%h%m%m%z|%Y%N%Dh%h%m%m|%Y%N%D/%h%m%m|%r-%Y%N%D|%r_%Y%N%D.%r|"
     "%r:%Y%N%D|%r=%Y%N%D-%h%m%m|%r %Y%N%D, 0%7%m|%r.%Y%N%D_%h%m%m",
     "%Y/%N/%D, %T|%D-%N-%Y %t|%n/%d/%Y, %t"},
    {Kind::date, Locale::english,
     "%B %d, %Y|%B %o, %Y|%b %d, %Y|%b %d %y|%p %o, '%y|%B the %o, %Y|%d %b %y|%d %B %Y|%d %B '%y|"
     "%o %B %Y|%o of %B %Y|the %o of %B %Y|the %o of %b '%y|%o of %b, %y|%a, %o of %b %Y|"
     "%A, %B %d, %Y|%A %o %B %Y|%A the %o of %B, %Y|%A - %d %B %Y|%a %d %b %Y|%a, %d %b %Y|"
     "%a. %p %d, %y|%d %b %Y, %a|%B %d, %Y (%A)|%Y, %B %d|%Y %b %d|%D-%b-%Y|%d-%b-%y|%d/%b/%y|"
     "%b-%d-%Y|%D%b%Y|%Y-%b-%D|%a %n/%d/%y|%a, %D.%N.%Y|%A %Y-%N-%D|%b/%d/%y|%b.%d.%Y|%B %o, %y|"
     "%o %b %y|%b %d, %y|%o of %B '%y|the %o of %B, %y|%A, %d %b '%y|%a. %n/%d/%Y|%A, %n/%d/%y|"
     "%a. %d.%n.%y|%A %d-%n-%Y|dated %d-%n-%y|on %D.%N.%y|%Y %B %d|%Y, %b %o|%A, %Y/%N/%D|"
     "%b. %d-%y|%b %d-%y|%d-%b %y|%b-%D '%y|%o %B, %y|%B %o - %y|on %B %o, %y|%A - %n/%d/%Y|"
     "%b %d %Y|%B %d %Y|%A %B %d %Y|%b %e, %Y|%l, %d %B %Y|%l, %B %d, %Y|%l, the %o of %B %Y|"
     "%l, %A, %B %o, %Y|%l: %d %B %Y|%l - %A, %d %B %Y|signed in %l, %d %b %Y|%l, %Y-%N-%D|"
     "%l, on %o %B %Y|%l, %b %d, %y|from %l, %B %d, %Y|%r no. %4 of %d %B %Y|"
     "%r no. %4 of %B %d, %Y|%r %4/%2 of %d %b %Y|%r no. %3, %B %d, %Y|%r %5, dated %d %B %Y|"
     "%r date: %d %B %Y|%r date %B %d, %Y|%r #%4, %d %b %Y|order no. %4 of %d %B %Y|"
     "%r by %B %d, %Y|%r %2, %Y-%N-%D|%r on %A, %d %B %Y|%r no. %4 dated %Y-%N-%D|"
     "%r date: %n/%d/%Y|%r %4/%2, %d %B %Y|%r %4/%2, %b %d, %Y|%b-%d '%y|%B-%d %y|%b.%d.%y|"
     "%b. %d-'%y|%b-%o, %y|%b/%D/%y|%Y%B%o",
     "%B %o %y|%p %d, '%y|%a %b %o, %Y|%A, the %o of %B %Y|%o %b '%y|%d %B, %Y|%A %n/%d/%Y|"
     "%Y %B %o|%b the %o, '%y|%o of %b, %y (%a)|%D %b %Y - %A|%b-%d-%y|%d/%b/%Y|%a. %Y-%N-%D"},
    {Kind::date, Locale::english,
     "%d %B %T %Y|%b %d, %t, %Y|%B %d at %t, %Y|%a %d %b %t %Y|%b %d %t %Y|%A, %d %B %T %Y|"
     "%d %b %T %z %Y|%B %d %T %z %Y|%d %B %Y, %T|%b %d, %Y %T|%A, %D %B %Y, %T|%d-%b-%Y %T|"
     "%D-%b-%Y:%T %z|[%D %b %Y:%T]|[%Y/%b/%D:%T %z]|%T %d %b %Y|%T, %B %d, %Y|%t on %d %B %Y|"
     "%T %n/%d/%Y|%a, %b %d %T %Y|%A, %B %d %T %Y|%a, %b %e %T %Y|%k, %i %D %T %Y|%a %b %d %t %Y|"
     "%a %b %D %t %Y|%k %i %e %h:%m %Y|%a, %b %d %T %Y %z|%a %b %d %t %z %Y|%a %b %d %t %Y %z|"
     "[%a, %b %D %T %Y]|[%a %b %D %t %Y]|[%k, %i %D %T.%3 %Y]|%a, %b %d %T %z %Y|%a %b %d %Y %T|"
     "%k %i %D %Y %T|%a, %b %d %T UTC %Y|%A %B %d, %T, %Y|%b. %d %T %Y|%a %b %d, %T %Y|"
     "%d %b %h:%m %Y|%i-%D %T %Y|%a. %b. %d %T %Y|%r: %k, %i %d %T %Y|[%k, %i %D %T.%3%3 %Y]|"
     "%a, %b %d %T.%3%3 %Y|%d %b %T.%3%3 %Y|%b-%D %T.%3%3 %Y|[%a. %b %d %T.%3%3 %Y]|"
     "%B %d, %T.%3%3 %Y|%a, %d %b %T.%3 %Y|[%A, %B %d, %T.%3%3 %Y]|%a, %b %D %T.%0%7%3 %Y",
     "%B %d, %T, %Y|%A %d %b %T %Y|%b %o, %Y %T|%T %d %B, %Y"},
    {Kind::date, Locale::german,
     "%d. %B %Y|%d. %p %y|%d. %b %Y|%d %B %Y|%d.%B %y|%a., %d. %p %y|%A, %d. %B %Y|"
     "%A, den %d. %B %Y|den %d. %B '%y|am %d. %B %Y|am %A, %D.%N.%Y|%a %d.%n.%y|%a., %D.%N.%Y|"
     "vom %d. %B %Y|vom %D.%N.%Y|vom %d.%n.%y|bis %d. %b %Y|Bestellung vom %D.%N.%Y|"
     "Lieferdatum: %D.%N.%Y|Vertrag vom %d. %B %Y|den %D.%N.%Y|seit %A, %d.%n.%Y|den %d/%n/%Y|"
     "den %d.%n.%y|am %D.%N.%y|%A, %d.%n.%y|seit %D.%N.%y|Rechnung vom %d.%n.%y|"
     "Termin am %d.%n.%Y|Datum: %D.%N.%y|%a., den %d.%n.%Y|%A %d.%n.%Y|ab %d. %p '%y|%a. %d/%n/%Y|"
     "vom %d/%n/%y|%d. %B '%y|%A, %d. %b %y|%D.%N.%Y (%a)|den %o %b %Y|bis zum %D.%N.%y|"
     "bis %A, %d.%n.%y|bis zum %d. %B %Y|%l, %d. %B %Y|%l, den %d. %B %Y|%l, den %D.%N.%Y|"
     "%l, %D.%N.%Y|%l, am %d. %B %Y|%l, %d.%n.%Y|%l, %A, %d. %B %Y|%l am %D.%N.%Y|"
     "unterzeichnet in %l am %D.%N.%Y|%l: %d. %B %Y|%r Nr. %4 vom %d. %B %Y|"
     "%r Nr. %3 vom %D.%N.%Y|%r %4/%2 vom %D.%N.%Y|%r %4/%2 vom %d. %B %Y|%rdatum: %D.%N.%Y|"
     "%rdatum %d. %B %Y|%rdatum: %d.%n.%Y|%r bis %D.%N.%Y|%r bis %d. %B %Y|%r am %D.%N.%Y|"
     "%r vom %d.%n.%Y|%r: %d. %B %Y|Auftrag Nr. %4 vom %d.%n.%Y|Bestelldatum: %D.%N.%Y|"
     "Geburtsdatum: %D.%N.%Y",
     "%a., den %d. %B %y|%a. %d. %b '%y|%A, den %D.%N.%y|am %A, %d. %p %Y|%d. %B %Y (%A)|"
     "vom %A, %d. %B %Y|Vertrag vom %d.%n.%Y|bis %D.%N.%y"},
    {Kind::date, Locale::french,
     "le %o %B %Y|%o %B %Y|%d %p %y|%A %o %B %Y|%a. %d %b %Y|le %A %d %B %Y|%A, %d %B '%y|"
     "du %d %B %Y|du %o %b %y|le %D/%N/%Y|du %D/%N/%Y|le %d/%n/%y|le %A %D/%N/%Y|"
     "commande du %D/%N/%Y|commande du %d %B %Y|livraison : %D/%N/%Y|date de livraison : %D/%N/%Y|"
     "date de livraison : %d %B %Y|echeance %d/%n/%y|contrat du %D.%N.%Y|depuis le %d/%n/%Y|"
     "%a. %d/%n/%Y|%a. %d/%n/%y|le %a %d/%n/%Y|le %A, %d/%n/%y|du %d/%n/%y|du %a. %D/%N/%Y|"
     "commande du %d/%n/%y|facture du %D/%N/%y|facture du %D/%N/%Y|contrat du %d %B %y|"
     "%A %d/%n/%Y, svp|date : le %D/%N/%Y|du %a. %d %b '%y|%A le %d/%n/%Y|du %A %d %B %y|"
     "le %o %b, %y|%l, le %o %B %Y|%l, le %D/%N/%Y|%l, %d %B %Y|%l, %D/%N/%Y|%l, %d/%n/%Y|"
     "%l le %d %B %Y|%l, %A %d %B %Y|%l, %D.%N.%Y|signe a %l le %d %B %Y|signe a %l, le %D/%N/%Y|"
     "%l : %d %B %Y|%r no %4 du %D/%N/%Y|%r no %4 du %d %B %Y|%r no %3 du %d/%n/%Y|"
     "%r %4/%2 du %D/%N/%Y|date de %r : %D/%N/%Y|date de %r : %d %B %Y|date d'%r : %d/%n/%Y|"
     "%r du %D/%N/%Y|%r du %o %B %Y|%r avant le %d %B %Y|%r le %D/%N/%Y|"
     "date de naissance : %D/%N/%Y|date limite : %D/%N/%Y|contrat no %4 du %D/%N/%Y|"
     "%r : le %d/%n/%Y",
     "le %a. %o %b %y|%A, le %d %B %Y|le %o %B '%y|le %a. %d/%n/%Y|contrat du %D/%N/%y|"
     "du %A %o %B %Y"},
    {Kind::date, Locale::spanish,
     "%d de %B de %Y|%d de %b de %y|%o de %B de %Y|%A, %d de %B de %Y|el %d de %B de %Y|%d %p %Y|"
     "%a. %d %B %Y|%d de %B del %Y|%d-%b-%y|del %d de %B de %Y|de %d de %B de %Y|el %D/%N/%Y|"
     "del %D/%N/%Y|el %d/%n/%y|el %A %D/%N/%Y|pedido del %D/%N/%Y|pedido de %d de %B de %Y|"
     "fecha: %D/%N/%Y|fecha de entrega: %D/%N/%Y|entrega: %d de %B de %Y|vencimiento %d/%n/%y|"
     "desde el %d/%n/%Y|contrato del %D.%N.%Y|%a. %d/%n/%Y|%a. %d/%n/%y|el %a %d/%n/%Y|"
     "el %A, %d/%n/%y|del %D/%N/%y|del %a. %D/%N/%Y|pedido del %d/%n/%y|factura del %D/%N/%y|"
     "factura del %D/%N/%Y|contrato del %d de %B de %y|el dia %D/%N/%Y|desde el %a. %d/%n/%y|"
     "%a. %d de %b de '%y|el %A %d-%n-%Y|hasta el %D/%N/%Y|del %A %o de %B de %Y|"
     "%A, el %d de %B de %Y|%l, %d de %B de %Y|%l, a %d de %B de %Y|%l, %D/%N/%Y|%l, %d/%n/%Y|"
     "%l, el %D/%N/%Y|%l, a %D-%N-%Y|%l, %A %d de %B de %Y|%l, %d-%n-%Y|firmado en %l el %D/%N/%Y|"
     "%l: %d de %B de %Y|%r n. %4 de %d de %B de %Y|%r n. %4 del %D/%N/%Y|%r n. %3 del %d/%n/%Y|"
     "%r %4/%2 del %d/%n/%Y|%r %4/%2 de %d de %B de %Y|fecha de %r: %D/%N/%Y|"
     "fecha de %r: %d/%n/%Y|%r el %d de %B de %Y|%r el %D/%N/%Y|%r antes del %d/%n/%Y|"
     "%r del %D/%N/%Y|fecha de nacimiento: %D/%N/%Y|fecha limite: %D/%N/%Y|"
     "contrato n. %4 del %D/%N/%Y",
     "el %A %d de %B de %Y|%a., %d de %p de %Y|%d de %B, %Y|%A %o de %B del %Y|el %a. %d/%n/%Y|"
     "contrato del %D/%N/%y|fecha: %d de %B de %Y"},
    {Kind::date, Locale::italian,
     "%d %B %Y|%o %b %y|%A %d %B %Y|il %o %B %Y|%a. %d %p %Y|%d %b '%y|%A, il %d %B %Y|"
     "del %d %B %Y|dal %d %B %Y|il %D/%N/%Y|del %D/%N/%Y|il %d/%n/%y|il %A %D/%N/%Y|"
     "ordine del %D/%N/%Y|ordine del %d %B %Y|data: %D/%N/%Y|data di consegna: %D/%N/%Y|"
     "consegna: %d %B %Y|scadenza %d/%n/%y|dal %d/%n/%Y|contratto del %D.%N.%Y|%a. %d/%n/%Y|"
     "%a. %d/%n/%y|il %a. %d/%n/%Y|il %A, %d/%n/%y|del %d/%n/%y|dal %a. %D/%N/%Y|"
     "ordine del %d/%n/%y|fattura del %D/%N/%y|fattura del %D/%N/%Y|contratto del %d %B %y|"
     "entro il %D/%N/%Y|dal %a %d/%n/%y|il %A %d-%n-%Y|del %A %o %B %Y|%A, il %d/%n/%Y|"
     "%a, %d %b '%y|%A, %d %b %y|%l, %d %B %Y|%l, %D/%N/%Y|%l, %d/%n/%Y|%l, il %D/%N/%Y|"
     "%l, li %d/%n/%Y|%l, %A %d %B %Y|%l, il %o %B %Y|%l, %d.%n.%Y|%l, li %d %B %Y|"
     "scritto a %l il %D/%N/%Y|%l: %d %B %Y|%r n. %4 del %D/%N/%Y|%r n. %4 del %d %B %Y|"
     "%r n. %3 del %d/%n/%Y|%r %4/%2 del %d/%n/%Y|data di %r: %D/%N/%Y|data %r: %d/%n/%Y|"
     "data di %r: %d %B %Y|%r entro il %d %B %Y|%r entro il %D/%N/%Y|%r il %d/%n/%Y|"
     "%r del %D/%N/%Y|data di nascita: %D/%N/%Y|contratto n. %4 del %D/%N/%Y|%r: il %d/%n/%Y|"
     "scadenza %r: %D/%N/%Y",
     "il %d %b '%y|%A %o %b '%y|%a %d %B %y|contratto del %D/%N/%y|data: %d %B %Y|dal %A %d/%n/%Y"},
    {Kind::date, Locale::dutch,
     "%d %B %Y|%d %p %y|%A %d %B %Y|%a. %d %b %Y|op %d %B %Y|%o %B '%y|%a %d-%n-%Y|van %d %B %Y|"
     "van %D-%N-%Y|vanaf %d-%n-%Y|tot %d %B %Y|bestelling van %d-%n-%Y|bestelling van %d %B %Y|"
     "leverdatum: %D-%N-%Y|leverdatum: %d %B %Y|contract van %D.%N.%Y|op %d/%n/%Y|%a. %d/%n/%Y|"
     "van %d-%n-%y|op %D-%N-%y|%A, %d-%n-%y|factuur van %D-%N-%Y|factuur van %d-%n-%y|"
     "datum: %d-%n-%Y|vanaf %A %d-%n-%Y|op %a %d-%n-%Y|tot %d-%n-%y|op %a. %d %b %y|"
     "contract van %d %B %y|%a. %d %p %Y|van %a. %d-%n-%y|op %d/%n/%y|%l, %d %B %Y|%l, %D-%N-%Y|"
     "%l, %d-%n-%Y|%l, %A %d %B %Y|%l, %d/%n/%Y|%l, op %d-%n-%Y|%l, %o %B %Y|"
     "getekend te %l op %d %B %Y|%l: %d %B %Y|%r nr. %4 van %d %B %Y|%r nr. %4 van %D-%N-%Y|"
     "%r nr. %3 van %d-%n-%Y|%r %4/%2 van %d-%n-%Y|%r %4/%2 van %d %B %Y|%rdatum: %D-%N-%Y|"
     "%rdatum %d %B %Y|%r voor %d %B %Y|%r voor %D-%N-%Y|%r op %d-%n-%Y|%r van %D-%N-%Y|"
     "geboortedatum: %D-%N-%Y|contract nr. %4 van %d-%n-%Y|%r: %d %B %Y|van %A %d-%n-%y|"
     "vanaf %A %d-%n-%y|%a. %d-%n-%y|tot %A, %d-%n-%y|op %A %d-%n-%y|%A, %D-%N-%y|%A %d/%n/%y",
     "op %A %d %B %Y|%a. %d %p '%y|%A %d-%n-%y|van %A %d %B %Y|bestelling van %D-%N-%y|"
     "tot %A %d-%n-%Y"},
    {Kind::date, Locale::portuguese,
     "%d de %B de %Y|%o de %b. de %y|%A, %d de %B de %Y|%a, %d %b %Y|em %d de %B de %Y|"
     "%d de %B %Y|%o %B %Y|de %d de %B de %Y|a %d de %B de %Y|em %D/%N/%Y|de %D/%N/%Y|"
     "dia %d/%n/%y|%A, dia %D/%N/%Y|encomenda de %D/%N/%Y|encomenda de %d de %B de %Y|"
     "data: %D/%N/%Y|data de entrega: %D/%N/%Y|entrega: %d de %B de %Y|vencimento %d/%n/%y|"
     "desde %d/%n/%Y|contrato de %D.%N.%Y|%a., %d/%n/%Y|%a. %d/%n/%y|em %a %d/%n/%Y|"
     "em %A, %d/%n/%y|de %D/%N/%y|de %a. %D/%N/%Y|encomenda de %d/%n/%y|fatura de %D/%N/%y|"
     "fatura de %D/%N/%Y|contrato de %d de %B de %y|no dia %D/%N/%Y|desde %a. %d/%n/%y|"
     "%a, %d de %b de '%y|%A, %d-%n-%Y|ate %D/%N/%Y|de %a., %d de %B de %Y|em %o de %b. de %y|"
     "em %d de %b '%y|%l, %d de %B de %Y|%l, %D/%N/%Y|%l, %d/%n/%Y|%l, em %d de %B de %Y|"
     "%l, %D de %B de %Y|%l, %A, %d de %B de %Y|%l, %D-%N-%Y|%l, dia %D/%N/%Y|"
     "assinado em %l em %D/%N/%Y|%l: %d de %B de %Y|%r n. %4 de %D/%N/%Y|"
     "%r n. %4 de %d de %B de %Y|%r n. %3 de %d/%n/%Y|%r %4/%2 de %d/%n/%Y|data de %r: %D/%N/%Y|"
     "data da %r: %D/%N/%Y|data de %r: %d/%n/%Y|%r ate %d de %B de %Y|%r ate %D/%N/%Y|"
     "%r em %d/%n/%Y|%r de %D/%N/%Y|data de nascimento: %D/%N/%Y|contrato n. %4 de %D/%N/%Y|"
     "%r: %D de %B de %Y",
     "em %o de %B de %y|%A %d de %B, %Y|%a, %o de %b '%y|em %a. %d/%n/%Y|contrato de %D/%N/%y|"
     "dia %d de %B de %Y"},

    {Kind::incomplete, Locale::any,
     "%D.%N.|%d.%n.|%d - %n|%n/%d|%n / %d|%N/%Y|%N-%Y|%N / %Y|%N. %Y|%Y-%N|%Y.%N|%D.%N. %T|"
     "%d. %n. %t|%n/%d %T|%N-%D %T|%N/%D %T %w[%4]:",
     "%d. %n.|%N.%Y|%D.%N. %t|%N - %Y"},
    {Kind::incomplete, Locale::english,
     "%B %Y|%d %B|%B %o|%a %d %b|%A, %B %d|the %o of %B|%b '%y|%b %Y|%A %Y|%A the %o|%d of %Y|"
     "the %o|%d %B %T|%A, %B %d, %t|%B %d at %T|%a %d %b %T|%d %b, %T %w|%b %d, %t %w: %w|"
     "%B %d %T %w[%4]|%d %b %t %s[%2]:|%T %B %d|%b %d %t %w|%T %b %d %w: %4 %w|%A %T %w[%4]:|"
     "%l, %d %B|%l, %B %Y|%l, %B %d|%a, %b %d %T|%a %b %d %t|[%a, %b %D %T]|%r no. %4 of %d %B|"
     "%r %4/%2 of %B %d",
     "%B the %o|%B, %Y|%a, %b %o|%Y %B|%A, %d %b|the %o, %A|%d %B, %t|%B %o, %T|"
     "%a, %b %d, %T %w[%4]"},
    {Kind::incomplete, Locale::german,
     "%d. %B|%B %Y|am %d. %p|%A, %d. %B|im %B '%y|vom %d. %B|seit %B %Y|%d.%n. um %t|"
     "%r Nr. %4 vom %d. %B|%l, den %d. %B",
     "den %d. %B|im %B %Y|%a., %d. %b|vom %A, %d. %B"},
    {Kind::incomplete, Locale::french,
     "le %o %B|%B %Y|%A %d %B|en %B %Y|du %d %B|depuis %B %Y|le %d/%n|%r no %4 du %d %B|"
     "%l, le %d %B",
     "le %A %d %b|en %B '%y|du %A %d %B"},
    {Kind::incomplete, Locale::spanish,
     "%d de %B|%B de %Y|%A, %d de %b|%B del %Y|del %d de %B|desde %B de %Y|el %d/%n|"
     "%r n. %4 de %d de %B|%l, %d de %B",
     "el %d de %B|%A %d de %B|del %A %d de %B"},
    {Kind::incomplete, Locale::italian,
     "%d %B|%B %Y|%A %o %b|del %d %B|da %B %Y|il %d/%n|%r n. %4 del %d %B|%l, %d %B",
     "il %o %B|%A, il %d %B|del %A %d %B"},
    {Kind::incomplete, Locale::dutch,
     "%d %B|%B %Y|%A %o %b|van %d %B|sinds %B %Y|op %d-%n|%r nr. %4 van %d %B|%l, %d %B",
     "op %d %B|op %A %d %b|van %A %d %B"},
    {Kind::incomplete, Locale::portuguese,
     "%d de %B|%B de %Y|%A, %o de %b|a %d de %B|desde %B de %Y|em %d/%n|%r n. %4 de %d de %B|"
     "%l, %d de %B",
     "em %d de %B|em %B de %Y|desde %d de %B"},

    {Kind::year, Locale::english,
     "%Y|in %Y|year %Y|the year %Y|since %Y|%Y/%Y|%Y-%Y|summer %Y|spring of %Y|%w %Y|%r %Y|%Y %w|"
     "%Y: %w|%c %Y|%s %Y|(%Y)|ca. %Y|born %Y|%w in %Y|%Y to %Y|%s (%Y)|class of %Y|until %Y|"
     "from %Y",
     "%Y - %Y|since the year %Y|from %Y to %Y|%w of %Y|%w %w %Y|%s, %Y|%c in %Y|born in %Y|"
     "until summer %Y|%c, %Y|the %Y %w"},
    {Kind::year, Locale::german, "im Jahr %Y|seit %Y|Sommer %Y|bis %Y|das Jahr %Y",
     "seit dem Jahr %Y|bis Sommer %Y|Jahr %Y"},
    {Kind::year, Locale::french, "en %Y|depuis %Y|ete %Y|annee %Y|de %Y a %Y",
     "en ete %Y|depuis l'annee %Y"},
    {Kind::year, Locale::spanish, "en %Y|desde %Y|verano de %Y|el ano %Y|en el ano %Y",
     "desde el verano de %Y"},
    {Kind::year, Locale::italian, "nel %Y|dal %Y|estate %Y|anno %Y", "dal %Y al %Y|nell'anno %Y"},
    {Kind::year, Locale::dutch, "in %Y|sinds %Y|zomer %Y|het jaar %Y",
     "sinds het jaar %Y|sinds zomer %Y"},
    {Kind::year, Locale::portuguese, "em %Y|desde %Y|verao de %Y|o ano %Y",
     "desde o ano de %Y|no verao de %Y"},
    {Kind::version, Locale::english,
     "version %d.%n.%y|version %D.%N.%y|v%d.%n.%y|v%D.%N.%y|v %d.%n.%y|V. %d.%n.%y|"
     "release %d.%n.%y|rel. %d.%n.%y|rev. %d.%n.%y|build %d.%n.%y|%r %d.%n.%y|%r %D.%N.%y|"
     "%r-%d.%n.%y|%r version %d.%n.%y|%w v%d.%n.%y|%r %r %d.%n.%y|ver. %d.%n.%y|ver %d.%n.%y|"
     "version %d-%n-%y|version %d.%n.%Y|v%d.%n.%Y|software %d.%n.%y|driver %d.%n.%y|app %d.%n.%y|"
     "update to %d.%n.%y|upgrade to %r %d.%n.%y|install %d.%n.%y|%d.%n.%y released|%d.%n.%y-beta|"
     "%d.%n.%y-rc%1|%d.%n.%y%r|v%1.%1.%1|version %1.%2|release %2.%1.%1|build %5|patch %d.%n.%y|"
     "%r: %d.%n.%y|%r (%d.%n.%y)|%r/%d.%n.%y|%r=%d.%n.%y|%r: %D.%N.%y|%r: %d-%n-%y|%r; %d.%n.%y|"
     "%r, %d.%n.%y|%r no. %d.%n.%y|%r %d-%n-%y|%r %d/%n/%y|%d.%n.%y %r|%D.%N.%y %r|%r %d.%n.%y %r|"
     "%w %r %d.%n.%y|%r.%d.%n.%y|%r_%d.%n.%y|the %r %d.%n.%y|%r %1.%d.%n.%y|%r v. %d.%n.%y|"
     "%r, %D.%N.%y|%r %D.%N.%y %w|%r, %d-%n-%y|%r %d.%n.%y, %w|%r %r %D.%N.%y|%w, %r %d.%n.%y|"
     "%r %r, %d.%n.%y|%r %d.%n.%y please|new %r %d.%n.%y|%r %d.%n.%y (draft)|%r%d.%n.%y|"
     "%r on %r %d.%n.%y|%r %d.%n.%y ok|%r %d.%n.%y; thanks|my %r %d.%n.%y",
     "version: %d.%n.%y|%w version %d.%n.%y|release v%d.%n.%y|version v%D.%N.%y|"
     "update to v%d.%n.%y|%r v%d.%n.%y|upgrade to version %d.%n.%y|install version %d.%n.%y|"
     "%r %d.%n.%y-beta|software version %D.%N.%y|app v%d.%n.%y released|the new version %d.%n.%y|"
     "firmware %d.%n.%y|kernel %d.%n.%y|python %d.%n.%y|version %1.%1.%1|%w v%1.%2|build %5-%1"},
    {Kind::version, Locale::german,
     "Version %d.%n.%y|Fassung %d.%n.%y|Ausgabe %d.%n.%y|Ausgabe: %d.%n.%y|Stufe %d.%n.%y|"
     "Modell: %D.%N.%y|Version: %d.%n.%y|%r: %D.%N.%y|%r %d.%n.%y",
     "neue Version %d.%n.%y|Fassung: %D.%N.%y"},
    {Kind::version, Locale::french,
     "version %d.%n.%y|edition %d.%n.%y|modele : %d.%n.%y|logiciel %d.%n.%y|%r : %D.%N.%y|"
     "%r %d.%n.%y",
     "la version %d.%n.%y|edition: %D.%N.%y"},
    {Kind::version, Locale::spanish,
     "version %d.%n.%y|edicion %d.%n.%y|modelo: %d.%n.%y|%r: %d.%n.%y", "la version %d.%n.%y"},
    {Kind::amount, Locale::english,
     "GBP%d.%n.%y|GBP %d.%n.%y|GBP%D.%N.%y|$%d.%n.%y|$ %d.%n.%y|EUR %d.%n.%y|EUR%d.%n.%y|"
     "%d.%n.%y EUR|%d.%n.%yEUR|%d.%n.%y kg|%d.%n.%y USD|USD %d.%n.%y|%d.%n.%y%%|%d.%n.%y km|"
     "%d.%n.%y points|price %d.%n.%y|total %d.%n.%y|costs $%d.%n.%y|%d,%n.%y EUR|GBP%d-%n-%y|"
     "$%d/%n/%y|GBP%d.%n.%Y|$%d.%n.%Y|EUR %2.%0|$%2.%0|%3,%0 EUR|%3.%0 USD|%2%% of %w|%2.%1 kg|"
     "%2 x %2 cm|%d x %n x %y cm|%d-%n-%y mm|$%Y|GBP %Y|%Y EUR|%Y kg|EUR %Y|%Y people|%4 m|"
     "fee: GBP%d.%n.%y|sum: %d.%n.%y|%d.%n.%y litres|%d.%n.%y mm|%d.%n.%y m|%d.%n.%y ml|"
     "%d.%n.%y l|%d.%n.%y lb|%d.%n.%y oz|%d.%n.%y ft|%d.%n.%y GB|%d.%n.%y MB|%d.%n.%y pcs|"
     "%d.%n.%yh|%d.%n.%ykg|%d-%n-%y kg|%D.%N.%y %%|+%d.%n.%y|%r: %d.%n.%y kg|%w %d.%n.%y km|"
     "from %d.%n.%y kg|%d.%n.%y hours|CHF %d.%n.%y|CHF%d.%n.%y|%d.%n.%y CHF|cash %d.%n.%y|"
     "tax: %d.%n.%y|%2.%1 mm|%2 m x %2 m",
     "price: GBP%d.%n.%y|total $%d.%n.%y|costs GBP%d.%n.%y|only $%d.%n.%y|fee EUR %d.%n.%y|"
     "price $%D.%N.%y|%w for GBP%d.%n.%y|total: %d.%n.%y EUR|%w: %d.%n.%y kg|sum of %d.%n.%y USD|"
     "GBP%d.%n.%y each|$%Y each|%Y EUR for %w|%Y points|%2.%0 EUR|$%3.%0|%2%%|%2.%1 cm|%d.%n.%y "
     "cm"},
    {Kind::amount, Locale::german,
     "Preis %d.%n.%y|Betrag: %d.%n.%y|%d.%n.%y Euro|%Y Euro|Summe %D.%N.%y|Saldo: %d.%n.%y|"
     "Kosten %d.%n.%y|%r %D.%N.%y",
     "Preis: %d.%n.%y Euro|Betrag %D.%N.%y"},
    {Kind::amount, Locale::french,
     "prix %d.%n.%y|montant : %d.%n.%y|%d.%n.%y euros|%Y euros|total %d.%n.%y|somme %D.%N.%y|"
     "cout : %d.%n.%y|solde : %D.%N.%y|%r %D.%N.%y|%D.%N.%y %r",
     "prix : %d.%n.%y euros|montant %D.%N.%y"},
    {Kind::amount, Locale::italian,
     "prezzo %d.%n.%y|importo: %d.%n.%y|%d.%n.%y euro|totale %D.%N.%y|saldo: %d.%n.%y|%r %d.%n.%y",
     "prezzo: %d.%n.%y euro"},
    {Kind::amount, Locale::dutch,
     "prijs %d.%n.%y|bedrag: %d-%n-%y|%d.%n.%y euro|totaal %D.%N.%y|saldo: %d.%n.%y|%r %D.%N.%y",
     "bedrag %d.%n.%y euro"},
    {Kind::phone, Locale::english,
     "tel. %D-%N-%y|tel %D-%N-%y|tel: %D-%N-%y|tel. %D.%N.%y|tel. %D/%N/%y|tel. %D %N %y|"
     "phone %D-%N-%y|phone: %D.%N.%y|call %D-%N-%y|call %s %D-%N-%y|fax %D-%N-%y|fax: %D.%N.%y|"
     "telephone %D-%N-%y|mobile %D-%N-%y|mobile: %D %N %y|tel. %0-%D-%N-%y|tel. %D-%N-%y-%0|"
     "tel. %d-%n-%y|%D-%N-%y-%0|+%2 %D %N %y|+%2 %2 %3 %3|+%2 %3 %3 %3|tel. %3-%3-%3|%3 %3 %3|"
     "%3/%5|call %5%5|tel. %3-%4|phone %4-%4|ring %D-%N-%y|dial %D-%N-%y|number %D-%N-%y|"
     "cell %D-%N-%y|ext. %D-%N-%y|%r, tel. %D-%N-%y|%r tel. %D.%N.%y|phone no. %D-%N-%y|"
     "ring me: %D-%N-%y|fax. %D.%N.%y|phone %D %N %y|mobile %D/%N/%y|call %0-%D-%N-%y|"
     "tel. (%0) %D-%N-%y|%s: tel. %D-%N-%y|tel. %d.%n.%y|tel. %D-%N-%Y",
     "telephone: %D-%N-%y|tel.: %D-%N-%y|my phone: %D-%N-%y|call me: %D-%N-%y|fax no. %D-%N-%y|"
     "call tel. %D-%N-%y|mobile phone %D.%N.%y|phone number %D-%N-%y|%s, tel. %D-%N-%y|"
     "tel. %0 %D %N %y|the number is %D-%N-%y|dial %0-%D-%N-%y|tel. +%2 %3 %3|%3 %5|tel. %3 %4"},
    {Kind::phone, Locale::german,
     "Telefon %D-%N-%y|Telefon: %D %N %y|Tel.: %D.%N.%y|Rufnummer %D-%N-%y|Handy %D-%N-%y",
     "Telefon: %D-%N-%y|Rufnummer: %D.%N.%y"},
    {Kind::phone, Locale::french,
     "tel. %D.%N.%y.%0|telephone : %D.%N.%y|tel : %D %N %y|appeler le %D-%N-%y",
     "telephone %D.%N.%y.%0"},
    {Kind::phone, Locale::spanish, "telefono %D-%N-%y|telefono: %D.%N.%y|movil %D-%N-%y",
     "telefono: %D-%N-%y"},
    {Kind::phone, Locale::dutch, "telefoon %D-%N-%y|tel: %D-%N-%y|mobiel %D-%N-%y",
     "telefoon: %D-%N-%y"},
    {Kind::page, Locale::english,
     "page %Y|p. %Y|page %4|p.%4|room %Y|room %2|gate %1|page %2 of %3|pp. %Y-%Y|page %d.%n.%y|"
     "p. %d.%n.%y|chapter %d.%n.%y|chapter %1.%1|section %d.%n.%y|section %d.%n|sec. %d.%n.%y|"
     "fig. %d.%n.%y|figure %d.%n.%y|item %d.%n.%y|line %Y|line %4|table %d.%n.%y|"
     "paragraph %d.%n.%y|art. %d.%n.%y|step %d.%n.%y|house %Y|bus %Y|flight %4|%w page %Y|"
     "see p. %Y|par. %d-%n-%y|part %d.%n.%y|room %d.%n.%y|question %d.%n.%y|exercise %d.%n.%y|"
     "verse %d:%n|box %Y|page %Y of %4|table: %d.%n.%y|section: %d.%n.%y|see chapter %d.%n.%y|"
     "see fig. %d.%n.%y|page: %Y|%w, p. %Y|the chapter %d.%n.%y|note %d.%n.%y|clause %d.%n.%y|"
     "rule %d.%n.%y|%r, section %d.%n.%y|item: %d.%n.%y|level %d.%n.%y",
     "see page %Y|pages %Y to %Y|on page %Y|the page %Y|room no. %Y|see section %d.%n.%y|"
     "chapter: %d.%n.%y|%w, section %d.%n.%y|see table %d.%n.%y|fig.: %d.%n.%y|"
     "%w chapter %d.%n.%y|appendix %d.%n.%y|in room %Y|room %2 at %t|%w page %2|lines %Y-%Y"},
    {Kind::page, Locale::german,
     "Seite %Y|S. %Y|Zimmer %Y|Kapitel %d.%n.%y|Abschnitt %d.%n.%y|Raum %d.%n.%y",
     "auf Seite %Y|siehe Kapitel %d.%n.%y|Abschnitt: %d.%n.%y"},
    {Kind::page, Locale::french, "page %Y|chapitre %d.%n.%y|salle %Y|article %d.%n.%y",
     "a la page %Y|chapitre : %d.%n.%y"},
    {Kind::page, Locale::spanish, "pagina %Y|capitulo %d.%n.%y|sala %Y",
     "en la pagina %Y|capitulo: %d.%n.%y"},
    {Kind::page, Locale::italian, "pagina %Y|capitolo %d.%n.%y|sala %Y",
     "a pagina %Y|capitolo: %d.%n.%y"},
    {Kind::page, Locale::dutch, "pagina %Y|hoofdstuk %d.%n.%y|kamer %Y",
     "op pagina %Y|hoofdstuk: %d.%n.%y"},
    {Kind::page, Locale::portuguese, "pagina %Y|capitulo %d.%n.%y|sala %Y",
     "na pagina %Y|capitulo: %d.%n.%y"},
    {Kind::code, Locale::english,
     "%Y/Q%1|Q%1 %Y|%Y-S%2|%Y-H%1-%1|%Y.T%2|%Y/K%2/%1|%Y%r%2|%Y/%3|%3-%Y|%3/%Y|%Y %3|%4-%5|%5/%Y|"
     "%5-%2-%2|ISBN %3-%1-%5|%3.%3.%1.%3|ip %d.%n.%y.%2|%d.%n.%y.%3|%3.%d.%n.%y|host %d.%n.%2.%y|"
     "%2.%d.%n.%y|%r-%4-%2|%w_%Y|#%4|%w #%4|order %4-%5|no. %3/%Y|%3%3|no. %2/%3|order %5|"
     "order no. %5-%1|#%5|%w #%2|%w no. %2|week %2 of %Y|week %2, %Y|%1/%1 cup|%2-%1 points|"
     "%2 people|no. %Y|no. %4|id %Y/%2|%4-%2-%r|lot %Y-%2-%1|DIN %5-%1|day %3 of %Y|%r%4|%r%Y-%2|"
     "%5-%4|no. %5/%2|serial 3%5%2|serial %5%5|%5:%2:%2|%Y-Z%1|%Y-P%1-%1|%Y/R%1|%Y.L%1.%1|"
     "batch %Y-%1-%2|lot %Y/%2/%1|case %Y-%2-X|%YB%2|%Y-L%2|%Y/W%W|%Y.W%W.%u|%Y/W%W/%u|W%W/%Y|"
     "W%W-%u, %Y|KW %W/%Y|%Y, W%W-%u|%Y_W%W_%u|wk %W, %Y|%Y-V%W-%u|%Y-K%W-%u|%YK%W%u|%YV%W|"
     "%YX%W%u|%Y-X%W|%YK%W-%u|%Y-V%WT%T|%Y-K%W-%uT%h:%m|%w %Y-K%W-%u|%r %Y-V%W|%Y.%j|%Y/%jT%T|"
     "%Y.%jT%TZ|%Y_%j|day %j, %Y|D%j/%Y|%Y-K%1-%1|%Y-V%1-%1|%Y-B%1-%1|%Y-A%1-%1|%Y-C%2-%1|"
     "%Y-N%1-%2|%Y-F%1-%1|%YG%1-%1|%Y-U%W-%u|%Y-N%W|%Y/N%1/%1|%Y-%r-%1|%YX%1/%1",
     "serial %4-%5|%Y-Q%1|Q%1/%Y|%Y-Q%1-%1|ref. %Y/%3|id %4-%2|server %d.%n.%y.%2|"
     "host %d.%n.%y.%3|ip: %3.%d.%n.%y|lot no. %Y-%5|code %r-%4|order: %4/%5|%r %4-%5|"
     "week %2 in %Y|the %w no. %4|order #%5|%2 - %1 points|%w %2 people"},
    {Kind::other, Locale::english,
     "%w|%w %w|%w %w %w|%w %w %w %w|%r|%r %r|%w: %w, %w|we may %w|we march on, %w|%w in %B|1%1:30|"
     "%t h|%T|%w at %t|%t %w|%t - %t|from %t to %t|see you on %A|next %A|%A at %t|%A, %t|%s, %c|"
     "Dr. %s|%s and %s|call %s at %t|%w in %c|%2|%1|%3|%2 %w|%w %3|%1%1|%A %w|%r, %w",
     "%w, %w %w|%w and %w|%s in %c|%t to %t|next %A at %t|%w on %A|we may call %s|%w, %w and %w|"
     "%r and %w|the %w"},
};

}  // namespace detail

// All of them; a template's place is its template_id.
[[nodiscard]] inline const std::vector<Template>& templates() {
  static const std::vector<Template> all = [] {
    std::vector<Template> result;
    for (int number = 0; const detail::TemplateGroup& group : detail::kTemplateGroups) {
      for (const Split split : {Split::train, Split::test}) {
        const std::string_view list = split == Split::train ? group.train : group.test;
        for (int i = 0; i < count_items(list, '|'); ++i)
          result.push_back({split, group.kind, group.locale, item(list, '|', i), number});
      }
      ++number;
    }
    return result;
  }();
  return all;
}

}  // namespace dates

// SPDX-License-Identifier: MIT
#pragma once
// What every page of attention_view.hpp has in common, in the order in which it is written: the
// head, the style, the empty body and the script. Style, body and script are files of their own,
// each one raw string literal, so that what is between its first and its last line can be read by
// the tools of its language.
#include <string_view>

#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::detail::plot {

inline constexpr std::string_view view_head = R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
  script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<link rel="icon" href="data:,">
)html";

inline constexpr std::string_view view_style =
#include <eigenheads/plot/attention_view.css.inl>
    ;

// Behind "<header><div><h1>title</h1>".
inline constexpr std::string_view view_body =
#include <eigenheads/plot/attention_view.html.inl>
    ;

// An ES module in four parts that share one scope; a call of start() follows.
inline constexpr std::string_view view_scripts[] = {
#include <eigenheads/plot/attention_view_weights.js.inl>
    ,
#include <eigenheads/plot/attention_view_heads.js.inl>
    ,
#include <eigenheads/plot/attention_view_matrix.js.inl>
    ,
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/plot/attention_view_lines.js.inl>
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::plot

#include <eigenheads/detail/macros_on.inl>

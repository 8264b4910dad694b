// SPDX-License-Identifier: MIT
// A program that has macros under short names, as <complex.h>, <termios.h>, <windows.h> and old test
// frameworks do, and that includes every header after them (but prebuilt.hpp, which wants a library). They are its own again afterwards.
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <unsupported/Eigen/CXX11/Tensor>
#include <unsupported/Eigen/CXX11/ThreadPool>

#define H 1
#define D 2
#define E 3
#define N 4
#define I 5
#define B0 6
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define small char
#define near
#define far
#define ERROR 0
#define isnan(x) ((x) != (x))
#define major(x) (x)
#define minor(x) (x)
#define check(x) poisoned check
#define verify(x) poisoned verify
#define require(x) poisoned require

#include "no_prebuilt.hpp"

#if H != 1 || D != 2 || E != 3 || N != 4 || I != 5 || B0 != 6 || ERROR != 0 || major(7) != 7 || \
    min(1, 2) != 1 || max(1, 2) != 2
#error "A header has not put a macro back"
#endif

int main() {
  namespace eh = eigenheads;
  eh::MultiHeadAttention<float> attention({.num_hiddens = 8, .num_heads = 2});
  eh::Tensor<float, 3> x(1, 3, 8);
  x.setConstant(0.5f);
  const auto [output, weights] = attention.with_weights(x, x, x);
  std::printf("%g\n", static_cast<double>(weights(0, 0, 0, 0) * 3));
}

// SPDX-License-Identifier: MIT
// What follows, up to target_end.inl, is compiled for AVX-512, whatever the flags of the translation
// unit. What is included there is too: standard headers come before.
// clang-format off
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif

// SPDX-License-Identifier: MIT
#pragma once
// Before the first line of a test program (-include): all of it runs in another floating-point
// environment. EIGENHEADS_TEST_ROUNDING is one of <cfenv>'s modes; without it, subnormal numbers are
// lost.
#include "../subnormals.hpp"

#if defined(EIGENHEADS_TEST_ROUNDING)
#include <cfenv>
inline const int rounding_of_this_program = std::fesetround(EIGENHEADS_TEST_ROUNDING);
#else
inline const support::SubnormalsAreLost subnormals_of_this_program_are_lost;
#endif

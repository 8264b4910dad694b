// SPDX-License-Identifier: MIT
#define PREBUILT template
#include "prebuilt.hpp"

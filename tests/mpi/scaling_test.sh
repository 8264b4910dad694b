#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# scaling_test.sh PROGRAM PAGE: the page holds what the program prints.
set -euo pipefail
diff <("$1") <(sed -n '/^<!-- begin: /,/^<!-- end/p' "$2" | sed '1d;$d') ||
  { echo "$2 is another than what $1 prints" && exit 1; }

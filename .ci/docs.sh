#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The documentation site: it is built without a warning, every link in it leads somewhere, and a browser
# shows it and searches it from file://, on a phone and on a desk.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
take_arguments '' "$@"
for chromium in "${CHROMIUM:-chromium}" chromium-browser google-chrome; do
  if command -v "$chromium" >/dev/null; then break; fi
done
need doxygen command -v doxygen
need python3 command -v python3
need chromium command -v "$chromium"
install_missing 'documentation:'
command -v "$chromium" >/dev/null || chromium=chromium

bash "$root/.docs/build"
export SITE=$root/build/docs
step 'documentation: following links' python3 -B "$root/.docs/links.py"
step 'documentation: in a browser' python3 -B "$root/.docs/look.py" "$chromium" "$SITE/looks"
echo "documentation: $(wc -l <"$SITE/outside.txt") addresses outside, which nobody fetched:"
sed 's/^/  /' "$SITE/outside.txt"

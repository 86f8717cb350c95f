#!/bin/sh
# Starts Chromium so that it dies with the test that started it, even if that test is killed.
# HOLDFAST_CHROMIUM_PATH is set by e2e/src/browser.rs.
if command -v setpriv >/dev/null 2>&1; then
    exec setpriv --pdeathsig KILL "$HOLDFAST_CHROMIUM_PATH" "$@"
fi
exec "$HOLDFAST_CHROMIUM_PATH" "$@"

#!/usr/bin/env bash
# What the brokers of the tests run on: a Java runtime and Maven for Kafka, promtool for the alert rules.
# Installs only as root on Debian; anywhere else it names what is missing. It never fails: a broker that then cannot start
# is reported by the tests, and fails them under REQUIRE_BROKERS=1.
set -euo pipefail

packages=()
missing() { # command, package, reason
  command -v "$1" >/dev/null || { packages+=("$2"); echo "make brokers: $1 is missing ($3)" >&2; }
}

if [[ -z ${TEST_KAFKA:-} ]] && ! docker info >/dev/null 2>&1; then
  missing java default-jre-headless "Kafka runs on it; or set TEST_KAFKA=host:port, or start a container engine"
  missing mvn maven "fetches Kafka; or set TEST_KAFKA=host:port, or start a container engine"
fi
missing promtool prometheus "checks metrics and alert rules"

if [[ ${#packages[@]} -eq 0 ]]; then
  exit 0
fi
if [[ $(id -u) -ne 0 || ! -e /etc/debian_version ]]; then
  echo "make brokers: on Debian as root these would be installed: ${packages[*]}" >&2
  exit 0
fi

# Debian starts a service as soon as its package is installed; the tests start their own, on ports of their own.
policy=/usr/sbin/policy-rc.d
kept=""
restore() {
  rm -f "$policy"
  if [[ -n $kept ]]; then mv "$kept" "$policy"; fi
}
if [[ -e $policy ]]; then
  kept=$(mktemp "$policy.XXXXXX")
  mv "$policy" "$kept"
fi
trap restore EXIT
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
echo "make brokers: apt-get install ${packages[*]}" >&2
{ apt-get update -qq && apt-get install -qq -y --no-install-recommends "${packages[@]}"; } >/dev/null ||
  echo "make brokers: apt-get could not install ${packages[*]}" >&2

#!/usr/bin/env bash
# What the brokers of the tests run on: a Java runtime and Maven for Kafka, RabbitMQ, PostgreSQL, what compiles the
# AMQP 1.0 library of the Service Bus emulator, promtool for the alert rules.
# Installs only as root on Debian; anywhere else it names what is missing. It never fails: a broker that then cannot start
# is reported by the tests, and fails them under REQUIRE_BROKERS=1.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "make brokers: $*" >&2; }

packages=()
missing() { # what, package, reason
  packages+=("$2")
  say "$1 is missing ($3)"
}
program() { # command, package, reason
  command -v "$1" >/dev/null || missing "$@"
}
file() { # shell pattern, package, reason
  compgen -G "$1" >/dev/null || missing "$1" "$2" "$3"
}
proton() { .venv/bin/python -c 'import proton' 2>/dev/null; }

engine=false
if docker info >/dev/null 2>&1; then engine=true; fi

if [[ -z ${TEST_KAFKA:-} ]] && ! $engine; then
  program java default-jre-headless "Kafka runs on it; or set TEST_KAFKA=host:port, or start a container engine"
  program mvn maven "fetches Kafka; or set TEST_KAFKA=host:port, or start a container engine"
fi
if [[ -z ${TEST_RABBITMQ:-} ]] && ! $engine; then
  file /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server "or set TEST_RABBITMQ=amqp://..., or start a container engine"
fi
if [[ -z ${TEST_POSTGRESQL:-} ]] && ! $engine; then
  file '/usr/lib/postgresql/*/bin/postgres' postgresql "or set TEST_POSTGRESQL=postgresql://..., or start a container engine"
fi
if [[ -z ${TEST_SERVICEBUS:-} ]] && ! proton; then
  program gcc gcc "compiles the Service Bus emulator's library; or set TEST_SERVICEBUS"
  program cmake cmake "builds the Service Bus emulator's library; or set TEST_SERVICEBUS"
  program pkg-config pkg-config "finds OpenSSL for the Service Bus emulator's library; or set TEST_SERVICEBUS"
  file '/usr/include/openssl/ssl.h' libssl-dev "TLS of the Service Bus emulator; or set TEST_SERVICEBUS"
fi
program openssl openssl "makes the certificates of the tests"
program promtool prometheus "checks metrics and alert rules"

# Debian starts a service as soon as its package is installed; the tests start their own, on ports of their own.
policy=/usr/sbin/policy-rc.d
kept=""
restore() {
  rm -f "$policy"
  if [[ -n $kept ]]; then mv "$kept" "$policy"; fi
}
install_packages() {
  if [[ -e $policy ]]; then
    kept=$(mktemp "$policy.XXXXXX")
    mv "$policy" "$kept"
  fi
  trap restore EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  export DEBIAN_FRONTEND=noninteractive
  say "apt-get install ${packages[*]}"
  { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${packages[@]}"; } >/dev/null ||
    say "apt-get could not install ${packages[*]}"
}

if [[ ${#packages[@]} -gt 0 ]]; then
  if [[ $(id -u) -eq 0 && -e /etc/debian_version ]]; then
    install_packages
  else
    say "on Debian as root these would be installed: ${packages[*]}"
  fi
fi

if [[ -n ${TEST_SERVICEBUS:-} ]] || proton; then
  exit 0
fi
if [[ ! -x .venv/bin/python ]]; then
  say "there is no .venv to build the Service Bus emulator's library into; run make install, then this again"
  exit 0
fi
.venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/emulator.txt >/dev/null 2>&1 ||
  say "the Service Bus emulator cannot be built (see: .venv/bin/python -m pip install -r requirements/emulator.txt)"

# `just` alone lists the recipes. Inside `uv run` everything they need is there: `uv run just demo`.
# Settings come from the environment (docs/settings.md). A recipe that starts a process becomes it (`exec`), so signals reach it.

set no-exit-message := true

# Set in many containers; every process would compile all that it imports, which more than doubles what its start costs.
unexport PYTHONDONTWRITEBYTECODE

just := quote(just_executable()) + " --justfile " + quote(justfile())

has_tools := "python -c 'from importlib.util import find_spec as f; exit(not (f(\"xdist\") and f(\"psutil\")))'"

# The beginning of a recipe that needs these tools for its own help, too
help_first := "case \"${1-}\" in -h | --help) " + has_tools + " || exec " + just + " _help-without-tools"

_list:
    @{{ just }} --list --unsorted

# Run the private recipe of this name, which takes no arguments, or print what the public one is for
[positional-arguments]
_or-help NAME *ARGUMENTS:
    @case "${2-}" in "") exec {{ just }} "_$1";; -h | --help) exec {{ just }} _help "$1";; esac; echo "just $1 takes no arguments; --help says more" >&2; exit 2

_help NAME:
    @{{ just }} --list --unsorted | sed -nE 's/^ +{{ NAME }}( [^#]*)?# /just {{ NAME }}: /p'

_help-without-tools NAME: (_help NAME)
    @echo "Its options are shown once what tests and checks need is installed: uv sync --inexact --all-groups"

# The main job, watched: a system of its own, one order that succeeds, one for each refusal; --crash: kills under load, audited
[group('try')]
[positional-arguments]
demo *ARGUMENTS:
    @exec python -m infra.start ops.demo "$@"

# Place one order on the running system: just place --user u1 --points 500 --coupon c1 p1:2 p2:1
[group('try')]
[positional-arguments]
place *ARGUMENTS:
    @exec python -m ops.orders place "$@"

# The broker (unless NATS_URL is set) and all services in one terminal, until Ctrl-C
[group('run')]
[positional-arguments]
up *ARGUMENTS:
    @exec python -m infra.start infra.local.up --parent {{ just_pid() }} "$@"

# Restart all services of the running `just up` in turn, under load, without a failed order
[group('run')]
[positional-arguments]
roll *ARGUMENTS:
    @exec python -m infra.start infra.local.roll "$@"

# The bundled broker alone
[group('run')]
[positional-arguments]
nats *ARGUMENTS:
    @exec python -m infra.start infra.local.nats "$@"

# One service alone: a package <NAME>_svc
[group('run')]
[positional-arguments]
service *NAME:
    @exec python -m infra.start --service "$@"

# Orders: accepts them, waits for their end, cancels them
[group('run')]
[positional-arguments]
order *ARGUMENTS:
    @exec python -m infra.start --service order "$@"

# Products: their prices, their stock, what orders hold of it
[group('run')]
[positional-arguments]
product *ARGUMENTS:
    @exec python -m infra.start --service product "$@"

# Points: customers' accounts, what orders use of them
[group('run')]
[positional-arguments]
point *ARGUMENTS:
    @exec python -m infra.start --service point "$@"

# Coupons: whose they are, which order uses them
[group('run')]
[positional-arguments]
coupon *ARGUMENTS:
    @exec python -m infra.start --service coupon "$@"

# Ended orders to the data platform, beside order_svc: just export; --from 12345; status; reconcile; --help
[group('run')]
[positional-arguments]
export *ARGUMENTS:
    @exec python -m ops.orders export "$@"

# What happened to an order, fact by fact: just trace ORDER_ID (--json, --mermaid, --follow)
[group('operate')]
[positional-arguments]
trace *ARGUMENTS:
    @exec python -m ops.orders trace "$@"

# Orders by user, product, coupon, end, reason, time: just find --end canceled --since 22:00 --count (--json; --help has costs)
[group('operate')]
[positional-arguments]
find *ARGUMENTS:
    @exec python -m ops.orders find "$@"

# An order, product, user's points or coupon as it was then: just at order ID --time 2026-01-31T09:00:00+09:00
[group('operate')]
[positional-arguments]
at *ARGUMENTS:
    @exec python -m ops.orders at "$@"

# Every movement of a user's points, a product's stock or a coupon, with its order: just ledger user u1 (--since -1h, --json)
[group('operate')]
[positional-arguments]
ledger *ARGUMENTS:
    @exec python -m ops.orders ledger "$@"

# Prove that nothing was lost, doubled or forged: just audit (--at-rest, --against REPORT, --full, --json)
[group('operate')]
[positional-arguments]
audit *ARGUMENTS:
    @exec python -m ops.orders audit "$@"

# Is all well, and if not: what is wrong, since when, what to do: just status (--watch, --json)
[group('operate')]
[positional-arguments]
status *ARGUMENTS:
    @exec python -m ops.orders status "$@"

# All of it live in a browser, which `just up` starts as well: what is well, what waits for whom, each order's way
[group('operate')]
[positional-arguments]
dashboard *ARGUMENTS:
    @exec python -m ops.orders dashboard "$@"

# Messages that a service could not handle: just dlq ls; show 7; redrive 7 [--yes]; drop 7 [--yes]
[group('operate')]
[positional-arguments]
dlq *ARGUMENTS:
    @exec python -m ops.orders dlq "$@"

# Keys to try a secured system on this machine: for tokens, and a certificate for TLS (docs/security.md)
[group('operate')]
[positional-arguments]
keys *ARGUMENTS:
    @exec python -m ops.orders keys "$@"

# What operators did: redrives, drops, rebuilds, by whom, why, and the result: just operators --since -1d (--json)
[group('operate')]
[positional-arguments]
operators *ARGUMENTS:
    @exec python -m ops.orders operators "$@"

# A token of the development key, to try a system that asks for tokens: just token --sub u1 --scope ops:read (docs/security.md)
[group('operate')]
[positional-arguments]
token *ARGUMENTS:
    @exec python -m ops.orders token "$@"

# The stream once more, as lines or muted into another one: just replay --subject 'point.>'; --to URL; --help
[group('operate')]
[positional-arguments]
replay *ARGUMENTS:
    @exec python -m ops.orders replay "$@"

# The stream's generations: just stream ls; roll makes the next one; keeper does so in time (`just up` starts one)
[group('operate')]
[positional-arguments]
stream *ARGUMENTS:
    @exec python -m ops.orders stream "$@"

# Closed generations of the stream into files: proven, then deleted from the broker: just archive (--dry-run, --json)
[group('operate')]
[positional-arguments]
archive *ARGUMENTS:
    @exec python -m ops.orders archive "$@"

# Who hears and says what, from the code, and what is wrong with it: just flow (--markdown, --mermaid, --json)
[group('operate')]
[positional-arguments]
flow *ARGUMENTS:
    @exec python -m ops.orders flow "$@"

# What this code would decide otherwise than it is recorded: just what-if (--history FILE, --limit 100, --json)
[group('operate')]
[positional-arguments]
what-if *ARGUMENTS:
    @exec python -m ops.orders what-if "$@"

# The stores and the streams as one folder, beside the running system: just backup DIR (--stores-only, --json)
[group('operate')]
[positional-arguments]
backup *ARGUMENTS:
    @exec python -m ops.orders backup "$@"

# A backup as the data of stopped services: just restore DIR (--yes replaces data that exists, --json)
[group('operate')]
[positional-arguments]
restore *ARGUMENTS:
    @exec python -m ops.orders restore "$@"

# Build again a stopped service's store, from the stream, or a read model: just rebuild point; just rebuild popular
[group('operate')]
[positional-arguments]
rebuild *ARGUMENTS:
    @exec python -m ops.orders rebuild "$@"

# Remove all stored data of a system that is stopped, for good: just remove-data lists them; --yes removes them
[group('operate')]
[positional-arguments]
remove-data *ARGUMENTS:
    @exec python -m ops.orders remove-data "$@"

# The stream, each of its generations: its size, its limits, its settings, by the NATS CLI
[group('operate')]
nats-cli-stream *ARGUMENTS: (_or-help "nats-cli-stream" ARGUMENTS)

_nats-cli-stream:
    @found=$({{ just }} _generations) || exit $?; for one in $found; do {{ just }} _nats-cli stream info "$one" || exit $?; done

# Who hears the stream, and how far behind each is
[group('operate')]
nats-cli-consumers *ARGUMENTS: (_or-help "nats-cli-consumers" ARGUMENTS)

_nats-cli-consumers:
    @found=$({{ just }} _generations) || exit $?; for one in $found; do {{ just }} _nats-cli consumer report "$one" || exit $?; done

# What the stream has of one order: just nats-cli-order 2e86ac2065f70ff4b21b2634a80468d3
[group('operate')]
[positional-arguments]
nats-cli-order *ORDER_ID:
    @case "${1-}" in "") echo "name the order: just nats-cli-order ORDER_ID" >&2; exit 2;; -h | --help) exec {{ just }} _help nats-cli-order;; esac; exec {{ just }} _nats-cli-order "$1"

[positional-arguments]
_nats-cli-order ORDER_ID:
    @found=$({{ just }} _nats-cli-history "*.*.*.$1" && {{ just }} _nats-cli-history "*.*.$1") || exit $?; case "$found" in "") echo "the stream has no message of the order $1" >&2;; *) printf '%s\n' "$found";; esac

[positional-arguments]
_nats-cli-history SUBJECT:
    @found=$({{ just }} _generations) || exit $?; for one in $found; do {{ just }} _nats-cli sub --stream "$one" --all --terminate-at-end --wait 2s "$1" || exit $?; done

_generations:
    @found=$({{ just }} _nats-cli stream ls --names) || exit $?; printf '%s\n' "$found" | grep -xE 'EVENTS(_[0-9]+)?' | sort -V

[positional-arguments]
_nats-cli *ARGUMENTS:
    @command -v nats >/dev/null || { echo "the NATS CLI is missing: go install github.com/nats-io/natscli/nats@v0.5.1 (docs/nats-cli.md)" >&2; exit 2; }
    @exec nats --no-context --server "${NATS_URL:-nats://127.0.0.1:${NATS_PORT:-4222}}" "$@"

# What only the recipes below need, installed by uv unless it is there. Asking for help installs nothing
[positional-arguments]
_tools *ARGUMENTS:
    @case "${1-}" in -h | --help) exit 0;; esac; {{ has_tools }} || { echo "Installing what tests and checks need, once: uv sync --inexact --all-groups" >&2; "${UV:-uv}" sync -q --inexact --all-groups; }

# All tests, or what pytest is told: just test tests/domain -k coupon; as many files at a time as TEST_JOBS, or as there are cores
[group('check')]
[positional-arguments]
test *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} test;; esac; exec pytest -n "${TEST_JOBS:-logical}" --dist loadfile --no-loadscope-reorder "$@"

# Tests without a broker and without processes of the system, in about a minute; takes what pytest takes
[group('check')]
[positional-arguments]
test-unit *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} test-unit;; esac; exec pytest -n "${TEST_JOBS:-logical}" --dist loadfile --no-loadscope-reorder -m "not broker and not processes and not long and not slow" "$@"

# These, those that wait or try many examples, and tests against a real nats-server, in a few minutes; takes what pytest takes
[group('check')]
[positional-arguments]
test-fast *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} test-fast;; esac; exec pytest -n "${TEST_JOBS:-logical}" --dist loadfile --no-loadscope-reorder -m "not processes and not slow" "$@"

# All tests, or what pytest is told, then the lines that none of them ran in its own process; no number passes or fails it
[group('check')]
[positional-arguments]
coverage *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} coverage;; esac; exec pytest -n "${TEST_JOBS:-logical}" --dist loadfile --no-loadscope-reorder --cov --cov-config=pyproject.toml "$@"

# Everything at full size, before an issue is closed: checks, tests, both soaks, the bench; takes hours, needs root
[group('check')]
check-all *ARGUMENTS: (_or-help "check-all" ARGUMENTS)

_check-all: check coverage mechanisms sim-soak soak bench (bench "--only" "years")

# The services over a model of the broker and of their stores: just sim SEED tells one schedule, --runs N plays many, --help
[group('check')]
[positional-arguments]
sim *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} sim;; esac; exec python -m tests.sim "$@"

# Five million schedules of the core, then whole services until an hour is over, as a table: just sim-soak; --minutes 2 --core-runs 100000
[group('check')]
[positional-arguments]
sim-soak *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} sim-soak;; esac; exec python -m tests.sim.soak "$@"

# Each mechanism that a decision rests on, taken out once in a copy of the code, and what finds it, as a table: just mechanisms; --only 37, --help
[group('check')]
[positional-arguments]
mechanisms *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} mechanisms;; esac; exec python -m tests.sim.mechanisms "$@"

# Damaged inputs for all that reads what others wrote: facts, dead letters, requests, tokens: just fuzz --minutes 10 --seed N, --help
[group('check')]
[positional-arguments]
fuzz *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} fuzz;; esac; exec python -m tests.fuzz "$@"

# Real processes under load and faults, healed and audited, round by round: just chaos SEED --rounds 3 --fault power, --help
[group('check')]
[positional-arguments]
chaos *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} chaos;; esac; exec python -m tests.chaos "$@"

# The same for an hour: 1,000 kills of services, 300 of the broker, 100 power cuts, 20 lost stores of the broker; needs root
[group('check')]
[positional-arguments]
soak *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} soak;; esac; exec python -m tests.chaos --soak "$@"

# Change the code in one place at a time and run the tests that execute it: just mutants domains; --report, --show ID, --help
[group('check')]
[positional-arguments]
mutants *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} mutants;; esac; exec python -m tests.mutants "$@"

# Lint, format, types, and who may import whom
[group('check')]
check *ARGUMENTS: (_or-help "check" ARGUMENTS)

_check: _tools
    ruff check
    ruff format --check
    mypy
    pytest -q tests/infra/test_imports.py

# The saga beside the monolith, one process and what users would pick instead, in one table: just bench (half an hour, on slow cores more), --quick, --only years, --help
[group('check')]
[positional-arguments]
bench *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} bench;; esac; exec python -m bench "$@"

# What an audit costs over ever longer histories (minutes): just bench-audit 100000 1000000
[group('check')]
[positional-arguments]
bench-audit *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} bench-audit;; esac; exec python -m bench.audit "$@"

# Put the code into its one format
[group('check')]
fmt *ARGUMENTS: (_or-help "fmt" ARGUMENTS)

_fmt: _tools
    ruff check --fix
    ruff format

# Write again what is generated from the code: docs/asyncapi.json, the table of docs/choreography.md, the picture of docs/architecture.md
[group('tidy')]
docs *ARGUMENTS: (_or-help "docs" ARGUMENTS)

_docs:
    python -m contracts.asyncapi > docs/asyncapi.json
    python -m ops.orders flow --write
    python -m ops.rooms

# Write the golden body of every fact that has none, such as those of a new service; changes no file
[group('tidy')]
goldens *ARGUMENTS: (_or-help "goldens" ARGUMENTS)

_goldens: _tools
    python -m tests.contracts.goldens

# Draw the README's terminal pictures again, from real runs: docs/pictures
[group('tidy')]
[positional-arguments]
pictures *ARGUMENTS:
    @exec python -m infra.start ops.pictures "$@"

# Draw the README's pictures of the dashboard again, in a browser, and print what the dashboard costs: just dashboard-pictures --orders 10000
[group('tidy')]
[positional-arguments]
dashboard-pictures *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} dashboard-pictures;; esac; exec python -m tests.browser.pictures "$@"

# Pin all dependencies with their hashes in requirements.lock, from pyproject.toml, and what they require in pyproject.toml
[group('tidy')]
lock *ARGUMENTS: (_or-help "lock" ARGUMENTS)

_lock: _tools
    "${UV:-uv}" --no-config pip compile -q pyproject.toml --group dev --group bench --group bench-alternatives --group supply-chain --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock
    python -m ops.pins

# Look all packages of requirements.lock up among known vulnerabilities; needs the network
[group('check')]
[positional-arguments]
audit-deps *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} audit-deps;; esac; exec python -m tests.supply_chain.made_of audit-deps "$@"

# Write the product's bill of materials (CycloneDX): just sbom FILE
[group('tidy')]
[positional-arguments]
sbom *ARGUMENTS: (_tools ARGUMENTS)
    @{{ help_first }} sbom;; esac; exec python -m tests.supply_chain.made_of sbom "$@"

# Write the table of docs/licences.md again, from the packages that are installed
[group('tidy')]
licences *ARGUMENTS: (_or-help "licences" ARGUMENTS)

_licences: _tools
    python -m tests.supply_chain.made_of licences

# Remove all caches. Data stay: `just remove-data` removes them
[group('tidy')]
clean *ARGUMENTS: (_or-help "clean" ARGUMENTS)

_clean:
    rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis .coverage
    find . -name .venv -prune -o -name .tools -prune -o -name .data -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

#!/bin/sh
# Starts a rollout by the signed hook of Tidegate and waits for its outcome. Needs a POSIX shell, curl and openssl.
#
#   TIDEGATE_SERVER       address of the daemon, such as https://tidegate.example.com
#   TIDEGATE_HOOK_SECRET  secret of the generic hook
#   TIDEGATE_TOKEN        bearer token of a viewer, to look at the rollout (the daemon asks for none on loopback)
#   TIDEGATE_IMAGE        what to release: registry/repository:tag@sha256:...
#   TIDEGATE_DIGEST       its digest, where TIDEGATE_IMAGE has none
#   TIDEGATE_POLICY       the policy; without it those whose `start.on.image` fits
#   TIDEGATE_REVISION     commit or version to show
#   TIDEGATE_ACTOR        who releases
#   TIDEGATE_ID           names this run: in one run the same release starts once, however often it is asked for
#   TIDEGATE_WAIT         `false` to end when the rollout has started
#   TIDEGATE_TIMEOUT      seconds to wait at most, 3600 unless set
#   TIDEGATE_POLL         seconds between looks, 5 unless set
#
# Exit codes: 0 succeeded (or started, without waiting), 1 failed, stuck or superseded, 2 wrong usage, 3 rolled back,
# 4 aborted by a person, 5 still going on after TIDEGATE_TIMEOUT. The rollout goes on whatever happens to this script.
set -eu

say() { printf 'tidegate: %s\n' "$*" >&2; }
wrong() { say "$*"; exit 2; }

for program in curl openssl; do
    command -v "$program" >/dev/null 2>&1 || wrong "needs $program"
done
[ -n "${TIDEGATE_SERVER:-}" ] || wrong 'set TIDEGATE_SERVER to the address of the daemon'
[ -n "${TIDEGATE_HOOK_SECRET:-}" ] || wrong 'set TIDEGATE_HOOK_SECRET to the secret of the generic hook'
[ -n "${TIDEGATE_IMAGE:-}${TIDEGATE_POLICY:-}" ] || wrong 'set TIDEGATE_IMAGE, TIDEGATE_POLICY or both'
server=${TIDEGATE_SERVER%/}
timeout=${TIDEGATE_TIMEOUT:-3600}
poll=${TIDEGATE_POLL:-5}
case $timeout$poll in *[!0-9]*) wrong 'TIDEGATE_TIMEOUT and TIDEGATE_POLL are whole numbers of seconds' ;; esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
answer=$work/answer

# --- the request ---

body=
# Adds a key with a value that is not empty. Values that would need escaping in JSON are mistakes here.
add() {
    [ -n "$2" ] || return 0
    case $2 in *[\"\\]* | *[[:cntrl:]]*) wrong "a quote, a backslash or a control character in the value of $1" ;; esac
    body="$body${body:+,}\"$1\":\"$2\""
}
add policy "${TIDEGATE_POLICY:-}"
add image "${TIDEGATE_IMAGE:-}"
add digest "${TIDEGATE_DIGEST:-}"
add revision "${TIDEGATE_REVISION:-}"
add actor "${TIDEGATE_ACTOR:-}"
if [ -n "${TIDEGATE_ID:-}" ]; then
    # With a hash of the rest, since one run may release several images.
    add id "$TIDEGATE_ID-$(printf '%s' "$body" | openssl dgst -sha256 -r | cut -c 1-12)"
fi
body="{$body}"

time=$(date +%s)
# The secret is an argument of openssl for an instant: on a machine with other users' processes, not the right tool.
signature=$(printf 'v1:%s:%s' "$time" "$body" | openssl dgst -sha256 -hmac "$TIDEGATE_HOOK_SECRET" -r | cut -d ' ' -f 1)

# Repeating is safe: the daemon knows the delivery by its id, or by its bytes.
status=$(printf '%s' "$body" | curl --silent --show-error --output "$answer" --write-out '%{http_code}' \
    --max-time 30 --retry 3 --request POST \
    --header 'Content-Type: application/json' \
    --header "X-Tidegate-Timestamp: $time" \
    --header "X-Tidegate-Signature: v1=$signature" \
    --data-binary @- "$server/v1/hooks/generic") || { say "cannot reach $server"; exit 1; }
case $status in
    2??) ;;
    *) say "refused with status $status: $(cat "$answer")"; exit 1 ;;
esac

# --- the answer ---

# Prints the values of a key of the last answer, a line each. The daemon's JSON has no spaces between tokens.
values() { grep -o "\"$1\":\"[^\"]*\"" "$answer" | cut -d '"' -f 4; }

rollouts=$(values id || true)
if [ -z "$rollouts" ]; then
    say "nothing was started: $(cat "$answer")"
    exit 1
fi
output() { [ -z "${GITHUB_OUTPUT:-}" ] || printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"; }
output rollout "$(printf '%s' "$rollouts" | tr '\n' ' ')"
for rollout in $rollouts; do
    say "started $server/v1/rollouts/$rollout"
done
[ "${TIDEGATE_WAIT:-true}" != false ] || exit 0

# --- the outcome ---

# Looks at a rollout until it has ended, and leaves its phase in $phase. A daemon that restarts is looked at again.
wait_for() {
    phase=
    while :; do
        status=$({ [ -z "${TIDEGATE_TOKEN:-}" ] || printf 'Authorization: Bearer %s\n' "$TIDEGATE_TOKEN"; } |
            curl --silent --output "$answer" --write-out '%{http_code}' --max-time 30 --header @- \
                "$server/v1/rollouts/$1") || status=000
        case $status in
            200)
                seen=$(values phase | head -n 1)
                [ "$seen" = "$phase" ] || say "$1 is $seen"
                phase=$seen
                ;;
            4??) [ "$status" = 429 ] || { say "status $status: $(cat "$answer")"; phase=lost; } ;;
        esac
        case $phase in
            succeeded | rolled_back | aborted | stuck | superseded | lost) return 0 ;;
        esac
        if [ "$(date +%s)" -ge "$deadline" ]; then
            phase=timeout
            return 0
        fi
        sleep "$poll"
    done
}

deadline=$((time + timeout))
code=0
for rollout in $rollouts; do
    wait_for "$rollout"
    case $phase in
        succeeded) one=0 ;;
        rolled_back) one=3 ;;
        aborted) one=4 ;;
        timeout) one=5 ;;
        *) one=1 ;;
    esac
    if [ "$one" -ne 0 ]; then
        if [ "$one" -eq 5 ]; then
            say "$rollout goes on; no longer waited for after $timeout s"
        else
            say "$rollout is $phase: $(values reason | head -n 1)"
        fi
        [ "$code" -ne 0 ] || code=$one
    fi
    output phase "$phase"
done
exit "$code"

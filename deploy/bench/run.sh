#!/bin/bash
# run.sh bench|soak: starts bin/passerelle with deploy/bench/ROUTE.yaml in front of the load scripts' sink and loads it.
#   PERF_SCRIPTS (../shared/perf)  ROUTE plain|trust|openpgp|pickup  PROTO smtp  SIZE SESSIONS COUNT RUNS as in the scripts' README
#   SOAK_MINUTES 30. trust and openpgp want TLS_DIR, PEER_DN, PGP_KEY in the environment. Needs Debian's postfix (smtp-source, smtp-sink).
set -euo pipefail
cd "$(dirname "$0")/../.."
what=${1:?bench or soak}
perf=${PERF_SCRIPTS:-../shared/perf}
[ -x "$perf/compare.sh" ] || { echo "no load scripts in $perf: set PERF_SCRIPTS" >&2; exit 2; }
work=$(mktemp -d)
pid=
cleanup() {
	[ -z "$pid" ] || { kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; }
	rm -rf "$work"
}
trap cleanup EXIT
# The scripts build their load tool beside themselves: work on a copy. The contract relays *@dest.test alone.
cp -r "$perf" "$work/perf"
chmod -R u+w "$work/perf"
perf=$work/perf
export RCPT=${RCPT:-user@dest.test}
export LMTP_ADDR=127.0.0.1:12024 SMTP_ADDR=127.0.0.1:12025 PORTAL_ADDR=127.0.0.1:12443 METRICS_ADDR=127.0.0.1:12464
export SINK=127.0.0.1:${SINKPORT:-2526} STATE_DIR=$work/state
route=${ROUTE:-plain}
bin/passerelle serve --config "deploy/bench/$route.yaml" >"$work/log" 2>&1 &
pid=$!
for _ in $(seq 100); do
	(exec 3<>"/dev/tcp/127.0.0.1/12025") 2>/dev/null && break
	kill -0 "$pid" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
	sleep 0.1
done

case $what in
bench)
	"$perf/compare.sh" "$SMTP_ADDR" "$pid"
	;;
soak)
	load=$work/smtpload
	go build -o "$load" "$perf/smtpload.go"
	rss() { awk '/^VmRSS/{print $2}' "/proc/$pid/status"; }
	fds() { ls "/proc/$pid/fd" | wc -l; }
	run() { TARGET=$SMTP_ADDR SINK=$SINK PIDS=$pid SIZE=${SIZE:-100000} SESSIONS=${SESSIONS:-20} COUNT=${COUNT:-2000} TIMEOUT=300 "$load"; }
	run >/dev/null # warm
	rss0=$(rss) fds0=$(fds) end=$((SECONDS + 60 * ${SOAK_MINUTES:-30})) n=0
	while [ $SECONDS -lt $end ]; do
		out=$(run)
		n=$((n + 1))
		echo "$(date -u +%H:%M:%S) run=$n rss_kb=$(rss) fds=$(fds) $out"
		case $out in *'status="ok"'*) ;; *) echo "run $n failed" >&2; exit 1 ;; esac
	done
	rss1=$(rss) fds1=$(fds)
	echo "soak runs=$n rss_kb=$rss0->$rss1 fds=$fds0->$fds1"
	# Sessions kept to the hop may differ; anything beyond that is a leak.
	[ "$fds1" -le $((fds0 + 50)) ] || { echo "open files grew" >&2; exit 1; }
	[ "$rss1" -le $((rss0 * 2 + 65536)) ] || { echo "memory grew" >&2; exit 1; }
	;;
*) echo "bench or soak" >&2; exit 2 ;;
esac

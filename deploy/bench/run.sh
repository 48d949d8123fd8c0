#!/bin/bash
# run.sh: the table of docs/performance.md, beside Postfix in one run. ROUTE= SIZE= SESSIONS= choose cells (lists in quotes), RUNS pairs
# of each (5), COUNT messages a run, BIN the gateway (bin/passerelle); without them everything, under 20 minutes.
#   PERF_SCRIPTS ../shared/perf   ROUTE plain|trust|trust-tls|smime|openpgp|openpgp-gpg|pickup   SIZE in bytes   SESSIONS 1 10 50
# trust-tls: the peer is not Postfix but the same gateway without TLS. openpgp-gpg: it is Postfix with gpg as content filter, 1 MB.
# Needs Go, root and Debian's postfix (smtp-source, smtp-sink) and gnupg; nothing of the machine's own Postfix is touched.
set -euo pipefail
cd "$(dirname "$0")/../.."
perf=${PERF_SCRIPTS:-../shared/perf}
[ -x "$perf/compare.sh" ] || { echo "no load scripts in $perf: set PERF_SCRIPTS" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "needs root, as Postfix does" >&2; exit 2; }
if [ -z "${BENCH_MOUNTS:-}" ]; then # mounts of our own: the gpg filter's sendmail wants to be named in the machine's main.cf
	BENCH_MOUNTS=1 exec unshare --mount "$PWD/deploy/bench/run.sh" "$@"
fi
work=$(mktemp -d)
chmod 755 "$work"
gateways=()
stop_gateways() {
	for p in "${gateways[@]}"; do
		kill "$p" 2>/dev/null || true
		wait "$p" 2>/dev/null || true
	done
	gateways=()
}
cleanup() {
	stop_gateways
	[ ! -e "$work/perf/postfix-down.sh" ] || "$work/perf/postfix-down.sh"
	rm -rf "$work"
}
trap cleanup EXIT
# The scripts build their load tool beside themselves: work on a copy.
cp -r "$perf" "$work/perf"
chmod -R u+w "$work/perf"
perf=$work/perf
export PERF_DIR=$work/peer RCPT=user@dest.test MEM=0 TIMEOUT=${TIMEOUT:-120} RUNS=${RUNS:-5}
mkdir -p "$PERF_DIR" "$work/bin"
chmod 755 "$PERF_DIR"
(cd "$perf" && go build -o bin/smtpload smtpload.go)
go build -o "$work/bench" ./deploy/bench
ln -s ../bench "$work/bin/smtp-sink" # first in PATH: the sink that speaks TLS, for the routes that want it
export KEYS=$work/keys SINK=127.0.0.1:2526
PEER_DN=$("$work/bench" keys "$KEYS")
"$work/bench" directory "${DIRECTORY_ENTRIES:-100000}" "$work/extraction.txt"
export PEER_DN PGP_KEY=$KEYS/pgp.asc SMIME_LIST=$KEYS/list.csv

# up FILE PORT SINK: a gateway whose SMTP door is PORT; its pid is the last of gateways.
up() {
	local file=$1 port=$2 sink=$3
	mkdir -p "$work/state$port"
	LMTP_ADDR=127.0.0.1:$((port - 1)) SMTP_ADDR=127.0.0.1:$port PORTAL_ADDR=127.0.0.1:$((port + 1)) METRICS_ADDR=127.0.0.1:$((port + 2)) \
		SINK=$sink STATE_DIR=$work/state$port DIRECTORY=$work/extraction.txt "${BIN:-bin/passerelle}" serve --config "deploy/bench/$file.yaml" >"$work/log$port" 2>&1 &
	gateways+=($!)
	for _ in $(seq 300); do
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
		kill -0 $! 2>/dev/null || break
		sleep 0.1
	done
	cat "$work/log$port" >&2
	exit 1
}

# count SIZE SESSIONS [SLOW]: messages for a run of a second or two; pgp and vault get fewer.
count() {
	local n
	case $1 in 4096) n=2000 ;; 102400) n=600 ;; 1048576) n=150 ;; *) n=30 ;; esac
	[ "$2" != 1 ] || n=$((n / 2))
	[ "$2" -lt $n ] || n=$(($2 * 2))
	echo "${COUNT:-$((n / ${3:-1}))}"
}

# cell LABEL SIZE SESSIONS COUNT TARGET PID: one line of the table
cell() {
	local line
	line=$(SIZE=$2 SESSIONS=$3 COUNT=$4 "$perf/compare.sh" "$5" "$6" | tail -1)
	get() { sed -n "s/.*[ ]$1=\([^ ]*\).*/\1/p" <<<" $line"; }
	echo "| $1 | $2 | $3 | $4 | **$(get median)** ($(sed -n 's/.*ratio_delivered min=\([^ ]*\).*/\1/p' <<<"$line")-$(get max)) | $(get candidate_s) / $(get postfix_s) | $(get cpu_ratio_postfix_over_candidate) | $(get other_cpu_max) | $(get failed) |"
}

wanted() { [ -z "$2" ] || [[ " $2 " == *" $1 "* ]]; }

# cells ROUTE TARGET PID SLOW "SIZExSESSIONS ...": those of the list that are asked for
cells() {
	local c
	for c in $5; do
		wanted "${c%x*}" "${SIZE_LIST}" && wanted "${c#*x}" "${SESSIONS_LIST}" || continue
		cell "$1" "${c%x*}" "${c#*x}" "$(count "${c%x*}" "${c#*x}" "$4")" "$2" "$3"
	done
}

SIZE_LIST=${SIZE:-} SESSIONS_LIST=${SESSIONS:-}
unset SIZE SESSIONS
all="4096x10 4096x50 4096x1 102400x10 102400x50 102400x1 1048576x10 1048576x50 1048576x1 10485760x10 10485760x50 10485760x1"
few="4096x10 4096x50 4096x1 102400x10 1048576x10 10485760x10"
[ -z "$SIZE_LIST$SESSIONS_LIST" ] || few=$all

postfix_up() {
	POSTFIX_PIDS=$(FILTER=0 PORT=2525 SINKPORT=2526 "$perf/postfix-up.sh")
	export POSTFIX_PIDS POSTFIX_TARGET=127.0.0.1:2525
}
postfix_down() {
	"$perf/postfix-down.sh"
	unset POSTFIX_PIDS POSTFIX_TARGET
}

echo "| route | bytes | sessions | count | gateway / peer, median of $RUNS pairs (min-max) | messages/s | cpu per message, peer / gateway | other cpu | failed |"
echo "|---|---|---|---|---|---|---|---|---|"
for route in plain trust trust-tls smime openpgp pickup openpgp-gpg; do
	wanted "$route" "${ROUTE:-}" || continue
	path=$PATH
	case $route in
	plain)
		postfix_up
		up plain 12025 "$SINK"
		cells plain 127.0.0.1:12025 "${gateways[-1]}" 1 "$all"
		;;
	smime | openpgp)
		postfix_up
		up "$route" 12025 "$SINK"
		cells "$route" 127.0.0.1:12025 "${gateways[-1]}" 1 "$few"
		;;
	trust)
		postfix_up
		PATH=$work/bin:$PATH TLS_SINK=127.0.0.1:2527
		export TLS_SINK
		TLS_DIR=$KEYS/own up trust 12025 "$TLS_SINK"
		cells trust 127.0.0.1:12025 "${gateways[-1]}" 1 "$few"
		;;
	pickup) # the sink counts notices, not the codes for the sender
		postfix_up
		PATH=$work/bin:$PATH
		up pickup 12025 "$SINK"
		cells pickup 127.0.0.1:12025 "${gateways[-1]}" 1 "$few"
		;;
	trust-tls)
		PATH=$work/bin:$PATH TLS_SINK=127.0.0.1:2527
		export TLS_SINK
		up plain 12125 "$SINK"
		TLS_DIR=$KEYS/own up trust 12025 "$TLS_SINK"
		POSTFIX_TARGET=127.0.0.1:12125 POSTFIX_PIDS=${gateways[0]}
		export POSTFIX_TARGET POSTFIX_PIDS
		cells trust-tls 127.0.0.1:12025 "${gateways[-1]}" 1 "4096x10 4096x50 4096x1"
		unset POSTFIX_TARGET POSTFIX_PIDS
		;;
	openpgp-gpg)
		"$perf/gpg-key.sh" 2>"$work/gpg.log"
		GNUPGHOME=$PERF_DIR/gnupg gpg --batch --quiet --no-permission-warning --armor --export user@example.test >"$work/user.asc" 2>/dev/null
		cp /etc/postfix/main.cf "$work/main.cf"
		postconf -c "$work" -e "alternate_config_directories = $PERF_DIR/postfix/etc"
		mount --bind "$work/main.cf" /etc/postfix/main.cf
		printf '#!/bin/sh\nPERF_DIR=%s exec %s/gpg-filter.sh "$@"\n' "$PERF_DIR" "$perf" >"$work/filter.sh" # pipe(8) hands no environment on
		chmod 755 "$work/filter.sh"
		PGP_KEY=$work/user.asc up openpgp 12025 "$SINK"
		size=$((1048576 * 78 / 57 + 1200)) # the attachment is 1 MB before base64
		"$perf/mkmsg.sh" $size "$work/letter.eml" >/dev/null
		for sessions in ${SESSIONS_LIST:-10}; do
			FILTERCMD=$work/filter.sh FILE=$work/letter.eml PEER=gpg cell openpgp-gpg $size "$sessions" "${COUNT:-60}" 127.0.0.1:12025 "${gateways[-1]}"
		done
		umount /etc/postfix/main.cf
		;;
	esac
	PATH=$path
	unset TLS_SINK
	stop_gateways
	[ -z "${POSTFIX_PIDS:-}" ] || postfix_down
done

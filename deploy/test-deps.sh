#!/bin/sh
# Installs the Debian packages that the tests drive and that are missing; and axe-core from npm; asks the network for nothing when none is missing.
set -eu
missing=
need() { # package, then a program or a file of it
	command -v "$2" >/dev/null 2>&1 || [ -e "$2" ] || missing="$missing $1"
}
need gcc gcc # go test -race
need libc6-dev /usr/include/stdlib.h
need ca-certificates /etc/ssl/certs/ca-certificates.crt
need git git
need postfix /usr/sbin/postfix
need dovecot-core /usr/sbin/dovecot
need dovecot-imapd /usr/lib/dovecot/imap # the boxes that collect reads
need dovecot-submissiond /usr/lib/dovecot/submission-login # an MSSante operator as its clients see it
need gnupg gpg
need gpg-agent gpg-agent
need gpgsm gpgsm # S/MIME as GnuPG opens it
need p7zip-full 7z
need qpdf qpdf
need poppler-utils pdfdetach
need sq sq
need rnp rnp
need openssl openssl
need libnss3-tools cmsutil # S/MIME as Thunderbird opens it
need chromium chromium
need clamav-daemon /usr/sbin/clamd # searches the files of answers; its freshclam never runs
need python3 python3
need python3-dkim /usr/lib/python3/dist-packages/dkim/__init__.py # verifies our DKIM signatures, a second opinion
need python3-nacl /usr/lib/python3/dist-packages/nacl/__init__.py # with it: Ed25519
need tnef tnef # a second opinion on Outlook's winmail.dat
need ytnef-tools ytnef # and a third
need sharutils uuencode
need procps ps
need nginx-light /usr/sbin/nginx # the shipped reverse proxy of the patients' pages
need postgresql "$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null | tail -n 1)" # the deposits of several gateways; the tests run clusters of their own
need slapd /usr/sbin/slapd # a region's directory, asked over LDAP
need ldap-utils ldapsearch
need util-linux prlimit # faults: few descriptors, another user, a namespace
need xmlsec1 xmlsec1 # a second opinion on the signature of the white list
need systemd systemd-analyze # reads the units
need mount mount # faults: a disk that fills up and fails
need e2fsprogs /sbin/mkfs.ext4

# Let's Encrypt's own server for tests: no Debian package. Its version is that of gateway/gatewaytest/pebble.go.
if ! command -v pebble >/dev/null 2>&1 && ! [ -e "$(go env GOPATH)/bin/pebble" ]; then
	go install github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1
fi

# An S3 server over a folder, for the payloads of several gateways: no Debian package. Its version is that of gateway/gatewaytest/s3.go.
if ! command -v versitygw >/dev/null 2>&1 && ! [ -e "$(go env GOPATH)/bin/versitygw" ]; then
	CGO_ENABLED=0 go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
fi

# axe-core, which no Debian package has, judges the pages' accessibility; its version and sum are fixed here.
axe=axe-core-4.14.1.tgz
axesum=e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
axefile=/usr/local/share/axe-core/axe.min.js
[ -e "$axefile" ] || need npm npm
fetch_axe() {
	[ -e "$axefile" ] && return
	dir=$(mktemp -d)
	(cd "$dir" && npm pack --silent axe-core@4.14.1 >/dev/null && echo "$axesum  $axe" | sha256sum -c --quiet && tar xzf "$axe" package/axe.min.js)
	install -D -m 0644 "$dir/package/axe.min.js" "$axefile"
	rm -rf "$dir"
}

if [ -z "$missing" ]; then
	fetch_axe
	exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
	echo "missing Debian packages:$missing (install them, or run as root on Debian)" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
case " $missing " in
*" postfix "*) # the tests run instances of their own; the system's own one shall serve nobody
	echo "postfix postfix/main_mailer_type select Local only" | debconf-set-selections
	echo "postfix postfix/mailname string localhost" | debconf-set-selections
	;;
esac
case " $missing " in
*" slapd "*) echo "slapd slapd/no_configuration boolean true" | debconf-set-selections ;;
esac
apt-get update -q
case " $missing " in
*" postgresql "*) # as with Postfix: no cluster of the system's own
	apt-get install -y -q --no-install-recommends postgresql-common
	sed -ri 's/#?(create_main_cluster) .*$/\1 = false/' /etc/postgresql-common/createcluster.conf
	;;
esac
# shellcheck disable=SC2086
apt-get install -y -q --no-install-recommends $missing
fetch_axe

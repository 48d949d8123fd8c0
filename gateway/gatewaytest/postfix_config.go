package gatewaytest

import (
	"fmt"
	"strings"
)

// postfixMain is a clinic's main.cf, with the short times that a test needs.
func postfixMain(p *Postfix, opt PostfixOptions) []string {
	local := "error:no mailbox here"
	if opt.LocalHop != "" {
		host, port, _ := strings.Cut(opt.LocalHop, ":")
		local = fmt.Sprintf("smtp:[%s]:%s", host, port)
	}
	users := "local_recipient_maps ="
	if len(opt.Users) > 0 {
		users = "local_recipient_maps = inline:{ " + strings.Join(opt.Users, "=ok, ") + "=ok }"
	}
	return []string{
		"compatibility_level = 3.6",
		"queue_directory = " + p.Dir + "/queue",
		"data_directory = " + p.Dir + "/data",
		"command_directory = /usr/sbin",
		"daemon_directory = /usr/lib/postfix/sbin",
		"mail_owner = postfix",
		"setgid_group = postdrop",
		"multi_instance_name = postfix-" + opt.Name,
		"maillog_file = " + p.Log(),
		"maillog_file_prefixes = /var, /dev/stdout, " + p.Dir,
		"myhostname = " + opt.Name + ".mail.test",
		"mydestination = " + strings.Join(opt.Domains, ", "),
		"local_transport = " + local,
		users,
		"alias_maps =", "alias_database =",
		"relay_domains =",
		"inet_interfaces = 127.0.0.1", "inet_protocols = ipv4",
		"mynetworks = 127.0.0.0/8",
		"smtpd_relay_restrictions = permit_mynetworks, reject",
		"smtp_dns_support_level = disabled", "smtp_host_lookup = native", // nothing leaves loopback, not even a question
		"message_size_limit = 104857600",
		"minimal_backoff_time = 1s", "maximal_backoff_time = 4s", "queue_run_delay = 1s",
		"in_flow_delay = 0",
		"smtpd_client_connection_rate_limit = 0", "smtpd_client_connection_count_limit = 0",
		"smtpd_error_sleep_time = 0",
	}
}

// postfixMaster is Debian's list of services, without a chroot and with two listeners.
func postfixMaster(p *Postfix) []string {
	return []string{
		fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd", p.Port),
		fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd", p.Submission),
		"pickup unix n - n 60 1 pickup",
		"cleanup unix n - n - 0 cleanup",
		"qmgr unix n - n 300 1 qmgr",
		"tlsmgr unix - - n 1000? 1 tlsmgr",
		"rewrite unix - - n - - trivial-rewrite",
		"bounce unix - - n - 0 bounce",
		"defer unix - - n - 0 bounce",
		"trace unix - - n - 0 bounce",
		"verify unix - - n - 1 verify",
		"flush unix n - n 1000? 0 flush",
		"proxymap unix - - n - - proxymap",
		"smtp unix - - n - - smtp",
		"relay unix - - n - - smtp",
		"lmtp unix - - n - - lmtp",
		"showq unix n - n - - showq",
		"error unix - - n - - error",
		"retry unix - - n - - error",
		"discard unix - - n - - discard",
		"local unix - n n - - local",
		"anvil unix - - n - 1 anvil",
		"scache unix - - n - 1 scache",
		"postlog unix-dgram n - n - 1 postlogd",
	}
}

// Wiring are the addresses, host:port, that take the place of the shipped snippets' own.
type Wiring struct {
	LMTP, SMTP string // the gateway's listeners
	In, Out    string // the two hand-back listeners of the snippet, free ports of this machine
	Internet   string // where mail handed back outward goes, in place of each domain's MX
}

// Replace is the whole list of substitutions for a shipped snippet; nothing else of it is changed.
func (w Wiring) Replace() map[string]string {
	brackets := func(addr string) string {
		host, port, _ := strings.Cut(addr, ":")
		return "[" + host + "]:" + port
	}
	r := map[string]string{"127.0.0.1:10026": w.In, "127.0.0.1:10027": w.Out}
	if w.LMTP != "" {
		r["127.0.0.1:10024"] = w.LMTP
	}
	if w.SMTP != "" {
		r["[127.0.0.1]:10025"] = brackets(w.SMTP)
	}
	if w.Internet != "" {
		r["content_filter=smtp:"] = "content_filter=smtp:" + brackets(w.Internet)
	}
	return r
}

// Package gateway leads one message through the house. It takes the operator's config, gives a running gateway, and knows nothing of
// flags or of how a room does its work.
//
// # The journey
//
// A clinic's mail server (Postfix) queues and repeats; the gateway never owns a message. Each message walks down these rooms while
// the client waits for its reply, and the reply is the last thing that happens:
//
//	receive    smtpd      an LMTP or SMTP session; the message is held in memory while a shared budget lasts, else in an
//	                      encrypted, unlinked temp file
//	ask        directory  each recipient: verified, not listed, or could not ask; with source and age
//	decide     policy     facts in, decision and reason out; pure
//	protect    protect    decision and message -> the bytes that may leave (crypto/* does the sealing)
//	  or keep  vault      seal the content, give back the link; the notice is then a message like any other
//	hand on    relay      SMTP to the next hop: trust space, Internet hop, clinic
//	note       ledger     one durable record for each recipient, before the reply
//
// Mail of the clinic's mailboxes at an MSSanté operator is not received but fetched (collect); from there on it walks the same way.
//
// Beside the way stand addressbook, which shows the directory to the people who write, and keyring, which keeps the keys of correspondents:
// what can be sealed to is asked of both, the clinic's own list first.
//
// Four journeys exist: Outbound (the clinic writes), Inbound (the trust space writes to the clinic), Collected (its mail, fetched from an
// operator's mailbox) and Answer (a patient answers on the pickup page). gateway.go tells them; wire.go hands each room its plain fields out of the config.
//
// # The promises
//
// It never owns a message: 250 means that the next hop, or the vault and then the notice's hop, has it, and that the ledger says so;
// anything else is 4xx or 5xx. Doubt never opens: what cannot be asked, proved or noted is "later", never clear text. Every exchange
// can be shown: what was decided and why, on which record of which date, and which peer took it under which certificate.
//
// # Words
//
// One name per thing, in code, config, metrics, logs and pages:
//
//	message       what a client hands over: envelope and body
//	recipient     one RCPT of a message; each has its own decision, copy and reply
//	route         the way by which one recipient's copy leaves: local, trust, encrypt, pickup, plain, refuse
//	verdict       what the directory said: verified, not-listed, could-not-ask
//	facts         all that a decision may depend on
//	decision      the route, the rule that chose it and the reason
//	reason        one line that names the rule and the facts it read
//	later         no route: the client keeps the message (4xx) and repeats
//	deposit       content sealed in the vault for one recipient
//	sending       the deposits of one message: its sender is told of all at once, and withdraws one or all
//	held          of a deposit: its notice waits for a telephone number
//	receipt       what tells a sender how his sending stands
//	exchange      what a professional and a patient write each other; closed, it takes no answer of the patient
//	duty          what is due later: a reminder, a receipt
//	notice        the neutral mail with the link to a deposit
//	code          the short number that opens a deposit together with its link
//	ledger entry  the durable record of one recipient's outcome
//	in hand       being worked on now; a second copy is answered 451
//	served        handed on and noted, while its reply was not written: not handed on again
//	lane          a transaction with a hop: the recipients of a message whose copies are the same bytes to the same hop
//	flight        the lanes of one message to one hop; what a session leaves goes on behind its reply
//	stalled       of a hop: it takes letters and answers none
//	next hop      the SMTP server that takes a copy: clinic, internet, or a trust-space host
//	trust space   the mail domains of MSSanté, each with its certificate
//	white list    the list of those domains and of the names (DN) that their certificates bear
//	client mode   the clinic writes into the trust space through its MSSanté operator's submission server (operator.go), not to each domain's
//	own list      the clinic's own list of correspondents: keys, phones, preferences
//	key           of a correspondent: his certificate or OpenPGP key, with its source and its trust
//	pledge        a connection to a hop that outlives this process, so that what the hop says of a collected message is never lost
//	mark          a header field with an HMAC that says where a message from the trust space came from, and who wrote it
//	opened        of mail for the clinic that came encrypted: what is in it stands in its place, for those whose key it is (opening.go)
//	wrapped       the same, where it could not be opened or must not be shown: an explanation, and the message as it came
//	reload        another config in force (reload.go): a message ends under the one that it began under
//	operator      who runs this gateway; also "MSSanté operator", always with that word before it
//	author        whom From names; a letter leaves for the trust space from his mailbox
//	writer        who wrote it: the author, or a delegate in his name
//	mailbox       a BAL of the directory: PER (person), ORG (organisation), APP (application), CAB (practice)
//
// # The map of arrows
//
// Imports run one way; arrows_test.go holds this map over `go list` and fails on any other arrow. A new one is made there, in the open.
//
//	cmd/passerelle       -> config, gateway
//	cmd/passerelle/demo  -> gatewaytest, crypto/zipaes (it opens what it receives)
//	gateway              -> every room, config
//	config               -> policy
//	policy, crypto/*     -> nothing of ours
//	message, store, web, duties -> nothing of ours
//	crypto/openpgp       -> crypto/lines, for its armour
//	every room           -> message at most; beyond that:
//	protect, vault       -> crypto/*
//	directory, ledger    -> store
//	vault                -> store
//	keyring              -> store, crypto/*
//	portal               -> vault, web
//	addressbook          -> web
//	smtpd, relay, collect -> trust
//	gatewaytest, gatewaytest/chromium, console -> nothing of ours
package gateway

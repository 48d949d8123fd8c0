package gateway_test

import "testing"

func hopReplies(t *testing.T, tab *replyTable)     {}
func hopTLSReplies(t *testing.T, tab *replyTable)  {}
func abilityReplies(t *testing.T, tab *replyTable) {}

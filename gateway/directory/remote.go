package directory

import (
	"context"

	"passerelle/gateway/message"
)

// remote is a source that is asked over the network about one address.
type remote interface {
	// name is the source's word in records, metrics and the config: "fhir", "ldap".
	name() string
	// ask gives the records that name the address, none if it is not listed; an error means that it could not be asked.
	ask(ctx context.Context, a message.Address) ([]Record, error)
	close() error
}

// oddAddress is a fault of one address: it could not be asked about, the source is well, and mail to others goes on asking it.
type oddAddress struct{ error }

func (o oddAddress) Unwrap() error { return o.error }

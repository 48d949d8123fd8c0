package directory

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// fault is why the directory cannot be asked, in the operator's words and in the sender's.
type fault struct{ why, reply string }

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.String()
}

func faultMissing() *fault {
	return &fault{"the directory's mirror is missing: no extraction was imported, or it was removed", "annuaire national absent, nouvel essai plus tard"}
}

func faultOf(err error) *fault {
	const later = ", nouvel essai plus tard"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return faultMissing()
	case errors.Is(err, fs.ErrPermission), errors.Is(err, errUnreadable):
		return &fault{"the directory's mirror cannot be read: permission denied", "annuaire national illisible" + later}
	case errors.Is(err, errSeal):
		return &fault{"the directory's mirror is damaged or not whole", "annuaire national endommage" + later}
	}
	return &fault{"the directory's mirror cannot be read: " + err.Error(), "annuaire national illisible" + later}
}

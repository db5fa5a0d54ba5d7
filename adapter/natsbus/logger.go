package natsbus

import (
	"context"
	"fmt"
	"log/slog"
)

// A logger passes on what the embedded server says. It says a lot, and takes a peer
// that is gone for an error, so all but the fatal is for debugging.
type logger struct{ l *slog.Logger }

func (l logger) Noticef(format string, v ...any) { l.debug(format, v) }
func (l logger) Warnf(format string, v ...any)   { l.debug(format, v) }
func (l logger) Errorf(format string, v ...any)  { l.debug(format, v) }
func (l logger) Debugf(format string, v ...any)  { l.debug(format, v) }
func (l logger) Tracef(string, ...any)           {}

func (l logger) Fatalf(format string, v ...any) {
	l.l.Error("nats: " + fmt.Sprintf(format, v...))
}

func (l logger) debug(format string, v []any) {
	if l.l.Enabled(context.Background(), slog.LevelDebug) {
		l.l.Debug("nats: " + fmt.Sprintf(format, v...))
	}
}

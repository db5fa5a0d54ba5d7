package httpemit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// Options are the settings of a Handler.
type Options struct {
	// Tokens are the bearer tokens of which a request must carry one; several, so that they
	// can be changed one program after the other. Each has at least 16 bytes. See SetTokens.
	Tokens []string

	// Open lets every program on this machine emit without a token, where Tokens is empty: requests are
	// refused unless they come from a loopback address and name one in their Host.
	Open bool

	// MaxBody is how many bytes a request may have. If zero, 1 MiB.
	MaxBody int64

	// MaxBatch is how many operations a request may have. If zero, 1000.
	MaxBatch int

	// MaxAnswer is about how many bytes the answers in one response may have; what comes beyond is
	// left out, and the result says so. If zero, 8 MiB.
	MaxAnswer int

	// MaxTime is how long one request may take. If zero, 30 seconds.
	MaxTime time.Duration

	// MaxRequests is how many requests may be in work at once. If zero, 256.
	MaxRequests int

	// Rate is how many operations per second are taken, all programs together; MaxBatch of them
	// may come at once. If zero, there is no limit.
	Rate float64
}

func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	c.MaxBody = orDefault(c.MaxBody, 1<<20)
	c.MaxBatch = orDefault(c.MaxBatch, 1000)
	c.MaxAnswer = orDefault(c.MaxAnswer, 8<<20)
	c.MaxTime = orDefault(c.MaxTime, 30*time.Second)
	c.MaxRequests = orDefault(c.MaxRequests, 256)
	if len(c.Tokens) == 0 && !c.Open {
		return c, errors.New("httpemit: no token: set Options.Tokens, or Options.Open to let all programs on this machine emit")
	}
	if len(c.Tokens) > 0 && c.Open {
		return c, errors.New("httpemit: both Options.Tokens and Options.Open are set: choose one")
	}
	return c, nil
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

const minToken = 16 // bytes

// hashes returns the hashes of tokens, which are all as long as each other.
func hashes(tokens []string) ([][sha256.Size]byte, error) {
	hs := make([][sha256.Size]byte, len(tokens))
	for i, t := range tokens {
		if len(t) < minToken {
			return nil, fmt.Errorf("httpemit: token %d has %d bytes: a token needs at least %d, for instance from `openssl rand -hex 32`", i+1, len(t), minToken)
		}
		for j := range len(t) {
			if t[j] <= ' ' || t[j] > '~' {
				return nil, fmt.Errorf("httpemit: token %d has a character that no header can carry: use letters and digits", i+1)
			}
		}
		hs[i] = sha256.Sum256([]byte(t))
	}
	return hs, nil
}

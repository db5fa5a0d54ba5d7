package pgbus

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Limits of PostgreSQL, as it is built everywhere.
//
// See https://www.postgresql.org/docs/current/sql-notify.html
const (
	maxName    = 63   // bytes in the name of a channel
	maxPayload = 7999 // bytes in a notification
)

// quoted returns the name of a table, perhaps with its schema in front, as it stands in SQL.
func quoted(table string) string { return pgx.Identifier(strings.Split(table, ".")).Sanitize() }

// beside returns the table whose name is that of another and a suffix.
func beside(table, suffix string) string { return quoted(table + suffix) }

// listen and unlisten return the commands for a channel.
func listen(channel string) string   { return "LISTEN " + pgx.Identifier{channel}.Sanitize() }
func unlisten(channel string) string { return "UNLISTEN " + pgx.Identifier{channel}.Sanitize() }

// sendable reports whether PostgreSQL takes s as text.
func sendable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// clip cuts a name to what PostgreSQL makes of one that is too long.
func clip(name string) string {
	if len(name) <= maxName {
		return name
	}
	end := maxName
	for end > 0 && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}

// hashed returns a name for a channel that stands for any text.
func hashed(prefix string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return prefix + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// lockOf returns the key of an advisory lock.
func lockOf(purpose, table string) int64 {
	sum := sha256.Sum256([]byte("atoll " + purpose + " " + table))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

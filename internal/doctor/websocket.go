package doctor

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// A socket is a WebSocket of a client, as little of it as is needed.
type socket struct{ *line }

// maxFrame is how large a message may be that is read, in bytes.
const maxFrame = 1 << 20

// A closedError says that the other end closed a WebSocket, in the way of the protocol.
type closedError struct {
	code int
	text string
}

func (e *closedError) Error() string { return fmt.Sprintf("closed with code %d %q", e.code, e.text) }

// webSocket asks for a WebSocket. Without an error, either s or a is set: a is an answer that is
// none, or one with a wrong Sec-WebSocket-Accept, which accepted tells.
func (v *visit) webSocket(sid string, header ...string) (s *socket, a *answer, accepted bool, err error) {
	l, err := v.dial("")
	if err != nil {
		return nil, nil, false, err
	}
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	a, err = l.do(request{method: http.MethodGet, target: v.target("websocket", sid), header: append([]string{
		"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + key,
	}, header...)})
	if err != nil || a.status != http.StatusSwitchingProtocols {
		l.close()
		return nil, a, false, err
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if a.header.Get("Sec-Websocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		l.close()
		return nil, a, false, nil
	}
	return &socket{l}, a, true, nil
}

// write sends a text.
func (s *socket) write(text string) error { return s.frame(1, []byte(text)) }

// frame sends a short frame, masked.
func (s *socket) frame(opcode byte, data []byte) error {
	var mask [4]byte
	rand.Read(mask[:])
	b := append([]byte{0x80 | opcode, 0x80 | byte(len(data))}, mask[:]...)
	for i, c := range data {
		b = append(b, c^mask[i%4])
	}
	s.SetWriteDeadline(time.Now().Add(s.v.o.Timeout))
	_, err := s.Write(b)
	return err
}

// read returns the next message. The error is a *closedError where the end was announced.
func (s *socket) read(wait time.Duration) (string, error) {
	s.SetReadDeadline(time.Now().Add(wait))
	s.budget = allowance
	var message []byte
	for {
		var head [2]byte
		if _, err := io.ReadFull(s.r, head[:]); err != nil {
			return "", err
		}
		n := uint64(head[1] & 0x7f)
		if head[1]&0x80 != 0 || head[0]&0x70 != 0 {
			return "", errors.New("what came is no frame of a WebSocket server")
		}
		var err error
		switch n {
		case 126:
			var b [2]byte
			_, err = io.ReadFull(s.r, b[:])
			n = uint64(binary.BigEndian.Uint16(b[:]))
		case 127:
			var b [8]byte
			_, err = io.ReadFull(s.r, b[:])
			n = binary.BigEndian.Uint64(b[:])
		}
		if err != nil {
			return "", err
		}
		if n > maxFrame || len(message)+int(n) > maxFrame {
			return "", fmt.Errorf("a message of more than %d bytes", maxFrame)
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(s.r, data); err != nil {
			return "", err
		}
		switch head[0] & 0xf {
		case 0, 1, 2:
			message = append(message, data...)
			if head[0]&0x80 != 0 {
				return string(message), nil
			}
		case 8:
			e := &closedError{code: 1005}
			if len(data) >= 2 {
				e.code, e.text = int(binary.BigEndian.Uint16(data)), string(data[2:])
			}
			return "", e
		case 9:
			if len(data) < 126 {
				if err := s.frame(10, data); err != nil {
					return "", err
				}
			}
		}
	}
}

// until reads until a message begins so.
func (s *socket) until(prefix string, wait time.Duration) error {
	for end := time.Now().Add(wait); ; {
		m, err := s.read(time.Until(end))
		if err != nil {
			return err
		}
		if len(m) >= len(prefix) && m[:len(prefix)] == prefix {
			return nil
		}
	}
}

// end says goodbye.
func (s *socket) end() {
	_ = s.write("1")
	_ = s.frame(8, []byte{3, 232})
	s.close()
}

package official

import (
	"fmt"
	"strconv"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// The types of a Socket.IO packet that carry an event.
const (
	packetEvent       = "2"
	packetBinaryEvent = "5"
)

// readPacket returns the event in a packet.
func readPacket(raw []byte) (event []byte, err error) {
	var kind []byte
	err = fields(raw, func(key, v []byte) error {
		switch string(key) {
		case "type":
			kind = v
		case "data":
			event = v
		}
		return nil
	})
	if err == nil && string(kind) != packetEvent && string(kind) != packetBinaryEvent {
		err = fmt.Errorf("a packet of type %.10q, not an event", kind)
	}
	return event, err
}

// readOptions reads who is selected, and flags.
func readOptions(raw []byte, op *cluster.Op) error {
	return fields(raw, func(key, v []byte) (err error) {
		switch string(key) {
		case "rooms":
			op.Rooms, err = readRooms(v)
		case "except":
			op.Except, err = readRooms(v)
		case "flags":
			if v[0] == '{' {
				err = fields(v, func(key, v []byte) error { return readFlag(key, v, op) })
			}
		}
		return err
	})
}

func readFlag(key, v []byte, op *cluster.Op) error {
	switch string(key) {
	case "volatile":
		if string(v) == "true" {
			op.Flags |= cluster.Volatile
		}
	case "compress":
		if string(v) == "false" {
			op.Flags |= cluster.NoCompress
		}
	case "timeout":
		if ms, err := strconv.ParseFloat(string(v), 64); err == nil && ms > 0 {
			const day = 24 * 60 * 60 * 1000
			op.Timeout = time.Duration(min(ms, day) * float64(time.Millisecond))
		}
	}
	return nil
}

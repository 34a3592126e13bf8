// A second central broker for the contract of tests/contract/test_central_contract.py: the library mochi-mqtt, with clients known by the
// common names of their certificates, the rights of docs/brokers.md, and the published roots and list of the revoked read anew for each
// connection. For tests only.
//
//	mochi HOST:PORT SERVER.pem PUBLISHED ingest,control,...
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

var (
	fromNodes = []string{"up", "up/json", "state", "rsp"}
	toNodes   = []string{"ack", "ack/json", "cfg", "cmd"}
)

type rights struct {
	mqtt.HookBase
	platform map[string]bool
}

func (r *rights) ID() string { return "rights" }

func (r *rights) Provides(b byte) bool {
	return bytes.Contains([]byte{mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPacketRead}, []byte{b})
}

// OnPacketRead makes the certificate decide whom a connection is of, before anything looks at what it calls itself.
func (r *rights) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type == packets.Connect {
		name := nameOf(cl)
		pk.Connect.ClientIdentifier, pk.Connect.Username, pk.Connect.UsernameFlag = name, []byte(name), true
		pk.Connect.Password, pk.Connect.PasswordFlag = nil, false // an empty one, which it would refuse
	}
	return pk, nil
}

func (r *rights) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	name := nameOf(cl)
	tenant, node, found := strings.Cut(name, "/")
	if !found || node == "" || strings.ContainsAny(name, "#+") {
		return false
	}
	return tenant != "platform" || r.platform[node]
}

func (r *rights) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	name := string(cl.Properties.Username)
	if shared := strings.SplitN(topic, "/", 3); len(shared) == 3 && shared[0] == "$share" && !write {
		topic = shared[2]
	}
	parts := strings.SplitN(topic, "/", 5)
	if len(parts) != 5 || parts[0] != "pl" || parts[1] != "1" {
		return false
	}
	tenant, node, leaf := parts[2], parts[3], parts[4]
	if strings.HasPrefix(name, "platform/") {
		if tenant == "platform" || node == "upload" {
			return false
		}
		return write && has(toNodes, leaf) || !write && (has(fromNodes, leaf) || has(toNodes, leaf))
	}
	if tenant+"/"+node != name || node == "upload" {
		return false
	}
	return write && has(fromNodes, leaf) || !write && has(toNodes, leaf)
}

func has(leaves []string, leaf string) bool {
	for _, one := range leaves {
		if one == leaf {
			return true
		}
	}
	return false
}

func nameOf(cl *mqtt.Client) string {
	shown := cl.Net.Conn.(*tls.Conn).ConnectionState().PeerCertificates
	if len(shown) == 0 {
		return ""
	}
	return shown[0].Subject.CommonName
}

// config is what holds now: the roots, and who is revoked.
func config(server, published string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(server, server)
	if err != nil {
		return nil, err
	}
	roots, err := os.ReadFile(filepath.Join(published, "roots.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	revoked, err := revokedIn(filepath.Join(published, "revoked.pem"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates:           []tls.Certificate{pair},
		ClientCAs:              pool,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		VerifyPeerCertificate: func(_ [][]byte, chains [][]*x509.Certificate) error {
			if revoked[chains[0][0].SerialNumber.String()] {
				return errors.New("revoked")
			}
			return nil
		},
	}, nil
}

func revokedIn(path string) (map[string]bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, err
		}
		for _, entry := range list.RevokedCertificateEntries {
			found[entry.SerialNumber.String()] = true
		}
	}
	return found, nil
}

func main() {
	address, server, published := os.Args[1], os.Args[2], os.Args[3]
	platform := map[string]bool{}
	for _, name := range strings.Split(os.Args[4], ",") {
		platform[name] = true
	}
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumClientWritesPending = 1 << 17
	capabilities.MaximumPacketSize = 1 << 17
	broker := mqtt.New(&mqtt.Options{Capabilities: capabilities, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	check(broker.AddHook(&rights{platform: platform}, nil))
	outer, err := config(server, published)
	check(err)
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return config(server, published) }
	check(broker.AddListener(listeners.NewTCP(listeners.Config{ID: "tls", Address: address, TLSConfig: outer})))
	check(broker.Serve())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	check(broker.Close())
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

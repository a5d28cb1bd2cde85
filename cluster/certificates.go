package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// leaf describes a certificate to sign. Hosts makes it one of a server, which
// may also act as a client.
type leaf struct {
	file          string
	name          string
	organizations []string
	hosts         []string
}

// writeCertificates makes the cluster's certificates and keys in pki/, valid
// for ten years. The authorities and the key of service account tokens are
// kept when they exist, so that kubeconfigs and tokens handed out stay valid.
func (c *Cluster) writeCertificates(now time.Time) error {
	ca, err := c.authority("ca", "slipway-"+c.Name, now)
	if err != nil {
		return err
	}
	// The store has its own authority: whoever may talk to the API server may
	// not therefore read every secret behind its back.
	etcd, err := c.authority("etcd-ca", "slipway-"+c.Name+"-etcd", now)
	if err != nil {
		return err
	}
	service, err := firstAddress(c.Network)
	if err != nil {
		return err
	}
	for _, l := range []leaf{
		{file: "apiserver", name: "kube-apiserver", hosts: []string{
			c.Network.Node.String(), service, "127.0.0.1", "localhost", "kubernetes", "kubernetes.default",
			"kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		}},
		{file: "kubelet", name: "system:node:" + c.Name, organizations: []string{"system:nodes"},
			hosts: []string{c.Name, c.Network.Node.String()}},
		{file: "apiserver-kubelet", name: "kube-apiserver", organizations: []string{"system:masters"}},
		{file: "admin", name: "admin", organizations: []string{"system:masters"}},
		{file: "kube-controller-manager", name: "system:kube-controller-manager"},
		{file: "kube-scheduler", name: "system:kube-scheduler"},
		{file: "kube-proxy", name: "system:kube-proxy"},
		{file: "coredns", name: "slipway:coredns"},
	} {
		if err := c.writeLeaf(ca, l, now); err != nil {
			return err
		}
	}
	for _, l := range []leaf{
		{file: "etcd", name: "etcd", hosts: []string{"127.0.0.1", "localhost"}},
		{file: "apiserver-etcd", name: "kube-apiserver"},
	} {
		if err := c.writeLeaf(etcd, l, now); err != nil {
			return err
		}
	}
	if _, err := os.Stat(c.pki("service-account.key")); err == nil {
		return nil
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	return c.writeKey("service-account", key)
}

func (c *Cluster) pki(file string) string { return filepath.Join(c.Dir, "pki", file) }

// authority reads the authority of this name, or makes it.
func (c *Cluster) authority(file, name string, now time.Time) (authority, error) {
	pair, err := readAuthority(c.pki(file+".crt"), c.pki(file+".key"))
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return pair, err
	}
	key, err := newKey()
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := sign(template, authority{template, key}, key.Public(), now)
	if err != nil {
		return authority{}, fmt.Errorf("make certificate authority %s: %w", name, err)
	}
	if err := errors.Join(c.writeKey(file, key), c.writeCertificate(file, der)); err != nil {
		return authority{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	return authority{certificate, key}, err
}

func readAuthority(certificateFile, keyFile string) (authority, error) {
	certificate, err := readPEM(certificateFile)
	if err != nil {
		return authority{}, err
	}
	key, err := readPEM(keyFile)
	if err != nil {
		return authority{}, err
	}
	a := authority{}
	if a.certificate, err = x509.ParseCertificate(certificate); err != nil {
		return authority{}, fmt.Errorf("read %s: %w", certificateFile, err)
	}
	if a.key, err = x509.ParseECPrivateKey(key); err != nil {
		return authority{}, fmt.Errorf("read %s: %w", keyFile, err)
	}
	return a, nil
}

func readPEM(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", file)
	}
	return block.Bytes, nil
}

func (c *Cluster) writeLeaf(by authority, l leaf, now time.Time) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: l.name, Organization: l.organizations},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, host := range l.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if len(l.hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := sign(template, by, key.Public(), now)
	if err != nil {
		return fmt.Errorf("sign certificate %s: %w", l.file, err)
	}
	return errors.Join(c.writeKey(l.file, key), c.writeCertificate(l.file, der))
}

func sign(template *x509.Certificate, by authority, public crypto.PublicKey, now time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = now.Add(-time.Hour)
	template.NotAfter = now.AddDate(10, 0, 0)
	return x509.CreateCertificate(rand.Reader, template, by.certificate, public, by.key)
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

func (c *Cluster) writeCertificate(file string, der []byte) error {
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return writeFile(c.pki(file+".crt"), data, 0o644)
}

func (c *Cluster) writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writeFile(c.pki(file+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// firstAddress is that of the service "kubernetes".
func firstAddress(n Network) (string, error) {
	address := n.Services.Addr().Next()
	if !n.Services.Contains(address) {
		return "", fmt.Errorf("service network %s has no address to give", n.Services)
	}
	return address.String(), nil
}

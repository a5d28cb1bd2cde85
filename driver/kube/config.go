package kube

import (
	"context"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/slipway-cd/slipway"
)

// ReadConfig checks a kubeconfig and cuts it down to one context ("" for its current one), with the
// files it refers to read into it. What would run a program on the server to get credentials is
// refused. It returns the cut kubeconfig, the context's name and the address of its API server.
func ReadConfig(kubeconfig []byte, contextName string) (cut []byte, name, server string, err error) {
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, "", "", slipway.Errorf(slipway.Invalid, "the kubeconfig does not parse: %w", err)
	}
	if contextName != "" {
		config.CurrentContext = contextName
	}
	chosen, ok := config.Contexts[config.CurrentContext]
	if !ok {
		return nil, "", "", slipway.Errorf(slipway.Invalid, "the kubeconfig has no context %q: say which one with --context (it has: %s)", config.CurrentContext, contexts(config))
	}
	if user, ok := config.AuthInfos[chosen.AuthInfo]; ok && (user.Exec != nil || user.AuthProvider != nil) {
		return nil, "", "", slipway.Errorf(slipway.Invalid, "context %q gets its credentials from a program (exec or auth-provider), which the server does not run: give a kubeconfig with a service account's token or a client certificate", config.CurrentContext)
	}
	if err := clientcmdapi.MinifyConfig(config); err != nil {
		return nil, "", "", slipway.Errorf(slipway.Invalid, "the kubeconfig's context %q is not complete: %w", config.CurrentContext, err)
	}
	for _, k := range config.Clusters {
		server = k.Server
		if k.CertificateAuthority != "" {
			return nil, "", "", slipway.Errorf(slipway.Invalid, "the kubeconfig refers to files: make it self-contained with `kubectl config view --raw --flatten --minify`")
		}
	}
	for _, u := range config.AuthInfos {
		if u.ClientCertificate != "" || u.ClientKey != "" || u.TokenFile != "" {
			return nil, "", "", slipway.Errorf(slipway.Invalid, "the kubeconfig refers to files: make it self-contained with `kubectl config view --raw --flatten --minify`")
		}
	}
	cut, err = clientcmd.Write(*config)
	return cut, config.CurrentContext, server, err
}

// OneCluster is the kubeconfig of the only cluster there is, whatever it is called.
type OneCluster []byte

// Kubeconfig returns it.
func (k OneCluster) Kubeconfig(context.Context, string) ([]byte, error) { return k, nil }

// LocalConfig reads a person's own kubeconfig file, cut down to the context of that name. Unlike ReadConfig
// it leaves files and programs that give credentials in it, as kubectl does: whoever uses it runs as that
// person. The current context of the file is never taken. It also returns the address of the API server.
func LocalConfig(file, contextName string) (cut []byte, server string, err error) {
	config, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return nil, "", slipway.Errorf(slipway.Invalid, "read kubeconfig %s: %w", file, err)
	}
	if _, ok := config.Contexts[contextName]; !ok {
		return nil, "", slipway.Errorf(slipway.Invalid, "kubeconfig %s has no context %q (it has: %s)", file, contextName, contexts(config))
	}
	config.CurrentContext = contextName
	if err := clientcmd.ResolveLocalPaths(config); err != nil {
		return nil, "", slipway.Errorf(slipway.Invalid, "kubeconfig %s: %w", file, err)
	}
	if err := clientcmdapi.MinifyConfig(config); err != nil {
		return nil, "", slipway.Errorf(slipway.Invalid, "context %q of kubeconfig %s is not complete: %w", contextName, file, err)
	}
	for _, k := range config.Clusters {
		server = k.Server
	}
	cut, err = clientcmd.Write(*config)
	return cut, server, err
}

func contexts(c *clientcmdapi.Config) string {
	out := ""
	for name := range c.Contexts {
		if out != "" {
			out += ", "
		}
		out += name
	}
	if out == "" {
		return "none"
	}
	return out
}

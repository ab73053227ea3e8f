package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"

	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/triggers/pkg/apis/triggers/v1alpha1"
	triggersv1beta1 "github.com/tektoncd/triggers/pkg/apis/triggers/v1beta1"
	fakeclient "github.com/tektoncd/triggers/pkg/client/clientset/versioned/fake"
	listersv1alpha1 "github.com/tektoncd/triggers/pkg/client/listers/triggers/v1alpha1"
	listers "github.com/tektoncd/triggers/pkg/client/listers/triggers/v1beta1"
	"github.com/tektoncd/triggers/pkg/interceptors"
	"github.com/tektoncd/triggers/pkg/interceptors/server"
	"github.com/tektoncd/triggers/pkg/sink"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	fakedynamic "k8s.io/client-go/dynamic/fake"
	fakekube "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// inProcess answers HTTP requests with a handler, so that the sink reaches the interceptors without a network.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(request *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	p.handler.ServeHTTP(recorder, request)
	return recorder.Result(), nil
}

// listen serves the EventListener on a free port of loopback. It prints a line of JSON with the port, then one for each
// request: the objects that it made the sink create. What the sink logs goes to standard error.
func listen(objects []object) error {
	config := zap.NewDevelopmentConfig()
	config.DisableStacktrace = true
	logger, err := config.Build()
	if err != nil {
		return err
	}
	log := logger.Sugar()

	index := func() cache.Indexer {
		return cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	}
	listeners, bindings, templates := index(), index(), index()
	kube := fakekube.NewSimpleClientset()
	kube.Resources = []*metav1.APIResourceList{{
		GroupVersion: pipelinev1.SchemeGroupVersion.String(),
		APIResources: []metav1.APIResource{{
			Group: "tekton.dev", Version: "v1", Name: "pipelineruns", Kind: "PipelineRun", Namespaced: true,
		}},
	}}
	var listener *triggersv1beta1.EventListener
	for _, each := range objects {
		switch value := each.value.(type) {
		case *triggersv1beta1.EventListener:
			listener, err = value, listeners.Add(value)
		case *triggersv1beta1.TriggerBinding:
			err = bindings.Add(value)
		case *triggersv1beta1.TriggerTemplate:
			err = templates.Add(value)
		case *corev1.Secret:
			for key, text := range value.StringData { // the API server does this
				if value.Data == nil {
					value.Data = map[string][]byte{}
				}
				value.Data[key] = []byte(text)
			}
			err = kube.Tracker().Add(value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", each.where, err)
		}
	}
	if listener == nil {
		return fmt.Errorf("there is no EventListener in the files")
	}

	core, err := server.NewWithCoreInterceptors(interceptors.DefaultSecretGetter(kube.CoreV1()), log)
	if err != nil {
		return err
	}
	created := []json.RawMessage{}
	dynamic := fakedynamic.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		{Group: "tekton.dev", Version: "v1", Resource: "pipelineruns"}: "PipelineRunList",
	})
	dynamic.PrependReactor("create", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		made := action.(clienttesting.CreateAction).GetObject()
		text, err := json.Marshal(made)
		created = append(created, text)
		return true, made, err
	})
	recorder, err := sink.NewRecorder()
	if err != nil {
		return err
	}
	handling := sync.WaitGroup{}
	receiver := sink.Sink{
		EventListenerName:           listener.Name,
		EventListenerNamespace:      listener.Namespace,
		KubeClientSet:               kube,
		TriggersClient:              fakeclient.NewSimpleClientset(),
		DiscoveryClient:             kube.Discovery(),
		DynamicClient:               dynamic,
		HTTPClient:                  &http.Client{Transport: inProcess{core}},
		Logger:                      log,
		Recorder:                    recorder,
		Auth:                        sink.DefaultAuthOverride{},
		PayloadValidation:           true,
		WGProcessTriggers:           &handling,
		EventRecorder:               record.NewFakeRecorder(100),
		EventListenerLister:         listers.NewEventListenerLister(listeners),
		TriggerLister:               listers.NewTriggerLister(index()),
		TriggerBindingLister:        listers.NewTriggerBindingLister(bindings),
		ClusterTriggerBindingLister: listers.NewClusterTriggerBindingLister(index()),
		TriggerTemplateLister:       listers.NewTriggerTemplateLister(templates),
		ClusterInterceptorLister:    listersv1alpha1.NewClusterInterceptorLister(clusterInterceptors(index())),
		InterceptorLister:           listersv1alpha1.NewInterceptorLister(index()),
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	output := json.NewEncoder(os.Stdout)
	if err := output.Encode(map[string]int{"port": socket.Addr().(*net.TCPAddr).Port}); err != nil {
		return err
	}
	one := sync.Mutex{} // a request is answered and its objects are told before the next one is looked at
	handler := receiver.IsValidPayload(http.HandlerFunc(receiver.HandleEvent))
	return http.Serve(socket, http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		one.Lock()
		defer one.Unlock()
		created = []json.RawMessage{}
		handler.ServeHTTP(response, request)
		handling.Wait()
		if err := output.Encode(map[string]any{"created": created}); err != nil {
			log.Fatal(err)
		}
	}))
}

// clusterInterceptors are those that Tekton Triggers installs and the EventListener names.
func clusterInterceptors(indexer cache.Indexer) cache.Indexer {
	for _, name := range []string{"github", "gitlab", "cel"} {
		interceptor := &v1alpha1.ClusterInterceptor{ObjectMeta: metav1.ObjectMeta{Name: name}}
		path := name
		interceptor.Spec.ClientConfig.Service = &v1alpha1.ServiceReference{
			Name: "tekton-triggers-core-interceptors", Namespace: "tekton-pipelines", Path: path,
		}
		if err := indexer.Add(interceptor); err != nil {
			panic(err)
		}
	}
	return indexer
}

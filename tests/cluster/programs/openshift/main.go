// OpenShift's own controllers and admission webhooks in one process on loopback, for tests that take no node:
// machine-api-operator's controller of MachineSets and its webhooks for AWS, cluster-autoscaler-operator's controllers of
// ClusterAutoscalers and MachineAutoscalers and their webhooks.
//
//	KUBECONFIG=FILE openshift  registers the webhooks with the API server, prints "ready", and runs until it is stopped
//	openshift supports NAMESPACE TARGETS MODES  says whether OLM installs an operator that supports these install modes in
//	                                            a namespace whose OperatorGroup has these targetNamespaces; lists by commas
//
// The API server must have their CRDs, an Infrastructure and a DNS named cluster, and the namespace openshift-machine-api.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	configv1 "github.com/openshift/api/config/v1"
	"github.com/openshift/api/features"
	machinev1beta1 "github.com/openshift/api/machine/v1beta1"
	"github.com/openshift/cluster-autoscaler-operator/pkg/apis"
	"github.com/openshift/cluster-autoscaler-operator/pkg/controller/clusterautoscaler"
	"github.com/openshift/cluster-autoscaler-operator/pkg/controller/machineautoscaler"
	"github.com/openshift/cluster-autoscaler-operator/pkg/operator"
	"github.com/openshift/machine-api-operator/pkg/controller/machineset"
	"github.com/openshift/machine-api-operator/pkg/webhooks"
	olm "github.com/operator-framework/api/pkg/operators/v1alpha1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/component-base/featuregate"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

// settings are those that the operator has in a cluster: namespace, names, image.
var settings = operator.NewConfig()

func main() {
	var err error
	switch {
	case len(os.Args) == 5 && os.Args[1] == "supports":
		err = supports(os.Args[2], os.Args[3], os.Args[4])
	case len(os.Args) == 1:
		ctrl.SetLogger(klog.NewKlogr())
		err = run(ctrl.SetupSignalHandler())
	default:
		err = fmt.Errorf("usage: openshift [supports NAMESPACE TARGETS MODES]")
	}
	if err != nil {
		log.Fatal(err)
	}
}

// supports is the question that OLM asks before it installs; no target namespace stands for all of them.
func supports(namespace, targets, modes string) error {
	set := olm.InstallModeSet{}
	for _, mode := range strings.Split(modes, ",") {
		set[olm.InstallModeType(mode)] = true
	}
	return set.Supports(namespace, strings.Split(targets, ","))
}

func run(ctx context.Context) error {
	for _, add := range []func(*runtime.Scheme) error{machinev1beta1.Install, configv1.Install, apis.AddToScheme, monitoringv1.AddToScheme} {
		if err := add(scheme.Scheme); err != nil {
			return err
		}
	}
	options := ctrl.Options{
		Scheme:  scheme.Scheme,
		Cache:   cache.Options{DefaultNamespaces: map[string]cache.Config{settings.WatchNamespace: {}}},
		Metrics: server.Options{BindAddress: "0"},
	}
	mgr, err := ctrl.NewManager(ctrl.GetConfigOrDie(), options)
	if err != nil {
		return err
	}
	handlers, err := controllers(mgr, options)
	if err != nil {
		return err
	}
	hooks, err := register(mgr)
	if err != nil {
		return err
	}
	defer hooks.Cleanup()
	serving := webhook.NewServer(webhook.Options{Host: hooks.LocalServingHost, Port: hooks.LocalServingPort, CertDir: hooks.LocalServingCertDir})
	for path, handler := range handlers {
		serving.Register(path, handler)
	}
	if err := mgr.Add(serving); err != nil {
		return err
	}
	go func() {
		mgr.GetCache().WaitForCacheSync(ctx)
		for serving.StartedChecker()(nil) != nil && ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond)
		}
		fmt.Println("ready")
	}()
	return mgr.Start(ctx)
}

// controllers adds the four of them, and returns what their webhooks are served at.
func controllers(mgr manager.Manager, options ctrl.Options) (map[string]*webhook.Admission, error) {
	gates := featuregate.NewFeatureGate()
	known := map[featuregate.Feature]featuregate.FeatureSpec{}
	// Those that machine-api-operator knows; its program has them off too.
	for _, name := range []configv1.FeatureGateName{
		features.FeatureGateMachineAPIMigration, features.FeatureGateVSphereHostVMGroupZonal, features.FeatureGateVSphereMultiDisk,
	} {
		known[featuregate.Feature(name)] = featuregate.FeatureSpec{PreRelease: featuregate.Alpha}
	}
	if err := gates.Add(known); err != nil {
		return nil, err
	}
	if err := machineset.Add(mgr, options, gates); err != nil {
		return nil, err
	}
	handlers := map[string]*webhook.Admission{}
	var err error
	if handlers[webhooks.DefaultMachineMutatingHookPath], err = webhooks.NewMachineDefaulter(); err != nil {
		return nil, err
	}
	if handlers[webhooks.DefaultMachineValidatingHookPath], err = webhooks.NewMachineValidator(mgr.GetClient(), gates); err != nil {
		return nil, err
	}
	if handlers[webhooks.DefaultMachineSetMutatingHookPath], err = webhooks.NewMachineSetDefaulter(); err != nil {
		return nil, err
	}
	if handlers[webhooks.DefaultMachineSetValidatingHookPath], err = webhooks.NewMachineSetValidator(mgr.GetClient(), gates); err != nil {
		return nil, err
	}

	clusters := clusterautoscaler.NewReconciler(mgr, clusterautoscaler.Config{
		Name:          settings.ClusterAutoscalerName,
		Image:         settings.ClusterAutoscalerImage,
		Replicas:      settings.ClusterAutoscalerReplicas,
		Namespace:     settings.ClusterAutoscalerNamespace,
		CloudProvider: settings.ClusterAutoscalerCloudProvider,
		Verbosity:     settings.ClusterAutoscalerVerbosity,
		WebhooksPort:  settings.WebhooksPort,
	})
	machines := machineautoscaler.NewReconciler(mgr, machineautoscaler.Config{
		Namespace:           settings.ClusterAutoscalerNamespace,
		SupportedTargetGVKs: machineautoscaler.DefaultSupportedTargetGVKs(),
	})
	if err := clusters.AddToManager(mgr); err != nil {
		return nil, err
	}
	if err := machines.AddToManager(mgr); err != nil {
		return nil, err
	}
	handlers["/validate-clusterautoscalers"] = &webhook.Admission{Handler: clusters.Validator()}
	handlers["/validate-machineautoscalers"] = &webhook.Admission{Handler: machines.Validator()}
	return handlers, nil
}

// register tells the API server of their webhooks, at a free port of loopback; a webhook that does not answer refuses.
func register(mgr manager.Manager) (*envtest.WebhookInstallOptions, error) {
	updater, err := operator.NewWebhookConfigUpdater(mgr, settings.WatchNamespace)
	if err != nil {
		return nil, err
	}
	autoscaling, err := updater.ValidatingWebhooks()
	if err != nil {
		return nil, err
	}
	defaults, checks := webhooks.NewMachineMutatingWebhookConfiguration(), webhooks.NewMachineValidatingWebhookConfiguration()
	scaling := &admissionv1.ValidatingWebhookConfiguration{
		TypeMeta:   checks.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Name: operator.WebhookConfigurationName},
		Webhooks:   autoscaling,
	}
	fail := admissionv1.Fail
	for i := range defaults.Webhooks {
		defaults.Webhooks[i].FailurePolicy = &fail
	}
	for _, all := range []*admissionv1.ValidatingWebhookConfiguration{checks, scaling} {
		for i := range all.Webhooks {
			all.Webhooks[i].FailurePolicy = &fail
		}
	}
	hooks := &envtest.WebhookInstallOptions{
		MutatingWebhooks:   []*admissionv1.MutatingWebhookConfiguration{defaults},
		ValidatingWebhooks: []*admissionv1.ValidatingWebhookConfiguration{checks, scaling},
	}
	return hooks, hooks.Install(mgr.GetConfig())
}

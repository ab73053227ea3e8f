package main

import (
	"context"
	"fmt"

	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/triggers/pkg/apis/triggers/contexts"
	triggersv1beta1 "github.com/tektoncd/triggers/pkg/apis/triggers/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"
	strict "sigs.k8s.io/yaml"
)

// admitted is what Tekton's admission webhooks ask of an object.
type admitted interface {
	SetDefaults(ctx context.Context)
	Validate(ctx context.Context) *apis.FieldError
}

// validate says what Tekton would refuse; the PipelineRuns inside TriggerTemplates too.
func validate(objects []object) error {
	ctx := contexts.WithUpgradeViaDefaulting(apis.WithinCreate(context.Background()))
	count, refused := 0, 0
	for _, each := range objects {
		if _, ok := each.value.(*corev1.Secret); ok {
			continue
		}
		all := []object{each}
		if template, ok := each.value.(*triggersv1beta1.TriggerTemplate); ok {
			for number, inner := range template.Spec.ResourceTemplates {
				run := &pipelinev1.PipelineRun{}
				if err := strict.UnmarshalStrict(inner.Raw, run); err != nil {
					return fmt.Errorf("%s: resourcetemplates[%d]: %w", each.where, number, err)
				}
				if run.Name == "" {
					run.Name = run.GenerateName + "x7k2p" // as the API server does before it asks
				}
				all = append(all, object{fmt.Sprintf("%s: resourcetemplates[%d]", each.where, number), run})
			}
		}
		for _, one := range all {
			value := one.value.(admitted)
			value.SetDefaults(ctx)
			count++
			if err := value.Validate(ctx); err != nil {
				refused++
				fmt.Printf("%s: %v\n", one.where, err)
			}
		}
	}
	if refused > 0 || count == 0 {
		return fmt.Errorf("Tekton refuses %d of %d objects", refused, count)
	}
	fmt.Printf("Tekton admits %d objects\n", count)
	return nil
}

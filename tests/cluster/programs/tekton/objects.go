package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	pipelinev1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	pipelinev1beta1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	triggersv1beta1 "github.com/tektoncd/triggers/pkg/apis/triggers/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

// object is one document: what Tekton makes of it, and where it stands.
type object struct {
	where string
	value any
}

// known makes an empty object of every kind that this program reads.
var known = map[string]func() any{
	"tekton.dev/v1/Task":                          func() any { return &pipelinev1.Task{} },
	"tekton.dev/v1/Pipeline":                      func() any { return &pipelinev1.Pipeline{} },
	"tekton.dev/v1/PipelineRun":                   func() any { return &pipelinev1.PipelineRun{} },
	"tekton.dev/v1beta1/StepAction":               func() any { return &pipelinev1beta1.StepAction{} },
	"triggers.tekton.dev/v1beta1/EventListener":   func() any { return &triggersv1beta1.EventListener{} },
	"triggers.tekton.dev/v1beta1/TriggerBinding":  func() any { return &triggersv1beta1.TriggerBinding{} },
	"triggers.tekton.dev/v1beta1/TriggerTemplate": func() any { return &triggersv1beta1.TriggerTemplate{} },
	"v1/Secret": func() any { return &corev1.Secret{} },
}

// read returns the objects of the files; an unknown field or an unknown kind of Tekton's is an error.
func read(files []string) ([]object, error) {
	var objects []object
	for _, name := range files {
		file := os.Stdin
		if name != "-" {
			opened, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			defer opened.Close()
			file = opened
		}
		documents := yaml.NewYAMLReader(bufio.NewReader(file))
		for {
			text, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			found, err := parse(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if found != nil {
				objects = append(objects, *found)
			}
		}
	}
	return objects, nil
}

func parse(text []byte) (*object, error) {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
	}
	if err := strict.Unmarshal(text, &head); err != nil {
		return nil, err
	}
	where := fmt.Sprintf("%s %s", head.Kind, head.Metadata.Name)
	group := head.GroupVersionKind().Group
	create, ok := known[head.APIVersion+"/"+head.Kind]
	if !ok {
		if group == "tekton.dev" || group == "triggers.tekton.dev" {
			return nil, fmt.Errorf("%s: %s is not known to this program", where, head.APIVersion)
		}
		return nil, nil
	}
	value := create()
	if err := strict.UnmarshalStrict(text, value); err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return &object{where, value}, nil
}

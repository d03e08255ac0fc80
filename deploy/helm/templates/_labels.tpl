{{- define "labels" -}}
app.kubernetes.io/name: alexnet
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

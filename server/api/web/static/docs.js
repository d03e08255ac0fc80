// The API reference: Swagger UI shows what /openapi.json says.

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  deepLinking: false, // its links would lie within buttons,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  validatorUrl: null,
});

// Validates resources (JSON on standard input) against the published schemas of Istio and the Gateway API, as the
// packages @kubernetes-models/istio and @kubernetes-models/gateway-api carry them. Argument: the folder they are in.
const { createRequire } = require("module");
const fs = require("fs");

const need = createRequire(`${process.argv[2]}/package.json`);
// The schema of v1 is that of v1beta1 (Istio 1.22, "v1 APIs"); the package has the latter.
const istio = (kind) => need(`@kubernetes-models/istio/networking.istio.io/v1beta1/${kind}`)[kind];
const models = {
  VirtualService: istio("VirtualService"),
  DestinationRule: istio("DestinationRule"),
  HTTPRoute: need("@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute").HTTPRoute,
};

for (const { apiVersion, ...resource } of JSON.parse(fs.readFileSync(0, "utf8"))) {
  try {
    new models[resource.kind](resource).validate();
    console.log(`${apiVersion} ${resource.kind}: valid`);
  } catch (error) {
    console.log(`${apiVersion} ${resource.kind}: ${error.message}`);
  }
}

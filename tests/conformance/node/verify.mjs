// Verifies our certificates with Sigstore's own client library for npm, which knows nothing of ours.
//
//   node verify.mjs FOLDER     FOLDER/node_modules has what package-lock.json names
//
// Each line of standard input is a question, each line of standard output its answer:
//   {"bundle": text, "trustedRoot": text, "keys": {hint: PEM}, "timestamps": least number of time stamps}
//   {"accepted": true} or {"accepted": false, "code": ..., "message": ...}
//
// A key counts for all times: npm's type for them has no window that JSON could give.
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(resolve(process.argv[2], "package.json"));
const { bundleFromJSON } = require("@sigstore/bundle");
const { TrustedRoot } = require("@sigstore/protobuf-specs");
const { Verifier, toSignedEntity, toTrustMaterial } = require("@sigstore/verify");

function verify({ bundle, trustedRoot, keys, timestamps }) {
  const byHint = Object.fromEntries(Object.entries(keys).map(([hint, pem]) => [hint, { rawBytes: pem }]));
  const trust = toTrustMaterial(TrustedRoot.fromJSON(JSON.parse(trustedRoot)), byHint);
  const verifier = new Verifier(trust, { ctlogThreshold: 0, tlogThreshold: 1, timestampThreshold: timestamps });
  verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(bundle))));
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer = { accepted: true };
  try {
    verify(JSON.parse(line));
  } catch (error) {
    answer = { accepted: false, code: error.code ?? error.name, message: error.message };
  }
  console.log(JSON.stringify(answer));
}

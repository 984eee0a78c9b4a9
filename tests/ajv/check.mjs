// Answers for each line on standard input, {"schema": name, "document": …}, with "valid" or with the first complaint.
// The schemas are those in the folder that is given.
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import Ajv from "ajv";

const folder = process.argv[2];
// Strict, so that a keyword that means nothing is no silent mistake. Types stand beside conditions, not inside them.
const ajv = new Ajv({ strict: true, strictTypes: false, strictRequired: false, validateFormats: false });
ajv.addVocabulary(["patternErrorMessage"]);
const validators = new Map(
  fs.readdirSync(folder).map((name) => {
    const schema = JSON.parse(fs.readFileSync(path.join(folder, name), "utf8"));
    return [name, ajv.compile(schema)];
  }),
);
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { schema, document } = JSON.parse(line);
  const validate = validators.get(schema);
  console.log(validate(document) ? "valid" : ajv.errorsText(validate.errors));
}

//! The JSON schema of build files, applied by Python's jsonschema.

use super::{bench, program};
use crate::support::{command, ocibuild, python_with, run};

/// Reads a TOML file, and prints what the schema finds wrong with it.
const CHECK: &str = "
import json, jsonschema, sys, tomllib
schema = json.load(open(sys.argv[1]))
jsonschema.Draft7Validator.check_schema(schema)
document = json.loads(json.dumps(tomllib.load(open(sys.argv[2], 'rb')), default=str))
for error in jsonschema.Draft7Validator(schema).iter_errors(document):
    print(error.message)
";

/// What the program accepts, the schema accepts; what it refuses for its form, too.
#[test]
fn the_schema_and_the_program_agree() {
    let Some(python) = python_with("tomllib, jsonschema") else { return };
    let scratch = bench();
    let schema = scratch.write("schema.json", run(ocibuild().args(["init", "--schema"])).success().stdout);
    for (file, is_valid) in [
        ("user = 1\ncreated = 2024-01-02T03:04:05Z\nchmod = 0o755\ntls-verify = false", true),
        ("copy = \"app:/app\"\nentrypoint = [\"a\", \"b\"]\ncmd = \"c\"\nexpose = [80, \"81\"]", true),
        (
            "ca-certificates = true\n[[copy]]\nsource = \"app\"\ndestination = \"/\"\nexclude = [\"x\"]\nxattrs = true",
            true,
        ),
        (
            "copy = [{source = \"app\", destination = \"/\"}, \"app/main:/main\"]\nenv = [\"A=1\"]\nlabel = \"a=b\"",
            true,
        ),
        ("[env]\nA = 1\nB = true\nC = \"x\"\n[ca-certificates]\n", true),
        ("user = \"1\"\n[[image]]\nname = \"a\"\n[[image.copy]]\nsource = \"app\"\ndestination = \"/\"", true),
        ("usr = 1", false),
        ("user = [1]", false),
        ("user = 1.5", false),
        ("xattrs = \"yes\"\nuser = 1", false),
        ("pull = \"often\"\nuser = 1", false),
        ("user = 1\nload = [\"crio\"]", false),
        ("[[copy]]\nsource = \"app\"", false),
        ("[[copy]]\nsource = \"app\"\ndestination = \"/\"\nmode = 1", false),
        ("[[mkdir]]\npath = \"/a\"\nmode = [1]", false),
        ("[env]\nA = [1]", false),
        ("[[image]]\nuser = 1", false),
        ("[[image]]\nname = \"a\"\nimport = []", false),
        ("name = \"a\"", false),
    ] {
        let path = scratch.write("ocibuild.toml", file);
        let found = run(command(&python).args(["-c", CHECK]).arg(&schema).arg(&path)).success();
        assert_eq!(found.text().is_empty(), is_valid, "{file}: {found}");
        // A typed destination would replace what the file says of engines.
        let destination = if file.contains("load") { [].as_slice() } else { &["-o", "oci:out"] };
        let built = program(&scratch, &[&["build", "-q", "--dry-run"], destination].concat());
        assert_eq!(built.status == 0, is_valid, "{file}: {built}");
    }
}

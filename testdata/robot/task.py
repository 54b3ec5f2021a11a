"""Says what a robot can know about its surroundings, in lines that are the same wherever it runs."""

import json
import os
import subprocess
import sys
import zlib

import counting

environment = os.environ
space, robot, artifacts = (environment[name] for name in ("CONDA_PREFIX", "ROBOT_ROOT", "ROBOT_ARTIFACTS"))


def say(*words):
    print("robot:", *words, flush=True)


say(sys.version.split()[0], sys.argv[1:])
say("python", os.path.relpath(os.path.realpath(sys.executable), space), os.path.relpath(json.__file__, space))
say("module", os.path.relpath(counting.__file__, robot))
say("directory", os.path.relpath(os.getcwd(), robot), "artifacts", os.path.relpath(artifacts, robot))
say("files", sorted(name for name in os.listdir(robot) if name not in ("output", "secret.txt", "hololib.zip")))
say("closed", open(os.path.join(space, "share/closed"), encoding="utf-8").read())
say("tool", subprocess.run(["tool"], stdout=subprocess.PIPE, check=True).stdout.decode().strip())
for name in ("CONDA_DEFAULT_ENV", "CONDA_SHLVL", "OCIBUILD_ACTIVATED", "PYTHONHOME", "PYTHONNOUSERSITE",
             "PYTHONDONTWRITEBYTECODE", "RCC_ENVIRONMENT_HASH"):
    say(name, environment.get(name))
with open("stock.txt", encoding="utf-8") as stock:
    lines = stock.read().splitlines()
say("total", counting.total(lines), zlib.crc32("\n".join(lines).encode()))
with open(os.path.join(artifacts, "result.json"), "w", encoding="utf-8") as result:
    json.dump({"total": counting.total(lines)}, result)
sys.exit(int(environment.get("ROBOT_STATUS", "0")))

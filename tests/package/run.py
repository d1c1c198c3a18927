"""Running the command line from the checks beside this file."""
import json
import subprocess


def run_json(*command):
  """The JSON that a command prints. Any exit status but 0 ends the check."""
  command = [str(part) for part in command]
  result = subprocess.run(command, capture_output=True, text=True, check=False)
  if result.returncode != 0:
    raise SystemExit(f"{' '.join(command)}: exit status {result.returncode}\n{result.stdout}{result.stderr}")
  return json.loads(result.stdout)

import json, sys, time
x = float(sys.argv[1])
for step in range(1, 5):
    time.sleep(0.1)
    print(json.dumps({"step": step, "loss": (x - float(open('data.txt').read())) ** 2 + 1 / step}), flush=True)
print("a note", x)
import os
open(os.environ['MODELOPT_TRIAL_DIR'] + '/own', 'w').write('it')

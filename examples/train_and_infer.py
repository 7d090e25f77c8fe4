"""Train one node on a list of labels, then predict a random known and a random unknown image, over REST.

Needs a running node and folders of images named by label, such as ``fedlmd data export mnist digits`` writes:

    python examples/train_and_infer.py --url http://127.0.0.1:8800 --labels 0,1,2,3 --images digits/eval
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import httpx


def main() -> None:
    """Train, then predict two images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8800", help="the node")
    parser.add_argument("--labels", default="0,1,2,3", help="labels to learn, comma separated")
    parser.add_argument("--images", type=Path, required=True, help="folder with one folder of images per label")
    arguments = parser.parse_args()
    labels = arguments.labels.split(",")

    with httpx.Client(base_url=arguments.url, timeout=None, trust_env=False) as node:
        print(f"training {arguments.url} on {', '.join(labels)}; this takes minutes")
        trained = node.post("/train-worker-on-labels-list", json={"labels_list": labels})
        print(trained.json())
        trained.raise_for_status()

        folders = sorted(folder for folder in arguments.images.iterdir() if folder.is_dir())
        known = [folder for folder in folders if folder.name in labels]
        unknown = [folder for folder in folders if folder.name not in labels]
        for kind, choices in (("known", known), ("unknown", unknown)):
            file = random.choice(sorted(random.choice(choices).iterdir()))
            result = node.post("/infer", files={"image": file.read_bytes()}).json()
            summary = f"prediction {result['prediction']}, is_ood {result['is_ood']}, p {result['p_value']:.3f}"
            print(f"{kind} {file}: {summary}")


if __name__ == "__main__":
    main()

"""MLflow: runs, the model registry, and models as MLflow loads them."""

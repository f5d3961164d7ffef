"""Where the curves of a training go: TensorBoard, MLflow or Weights & Biases."""

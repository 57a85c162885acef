"""What a run writes for its user: TensorBoard, scalars.csv, summary.json, progress and messages."""

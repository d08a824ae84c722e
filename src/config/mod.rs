//! The pipeline files: grammar, loading, and errors that say where. Does not build any stage.

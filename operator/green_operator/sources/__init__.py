"""Where a zone's intensity comes from: parsing and choosing are pure, reading is the caller's."""

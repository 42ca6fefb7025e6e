"""Pictures of whatever models `sow` into `visuals`; nothing here knows which model it has."""

"""What every script shares: flags, data sets, records, figures; no mathematics that an assignment asks for."""

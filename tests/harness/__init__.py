"""What every suite of real clients stands on: brokers, drivers, ports, waiting."""

"""Score distillation under threestudio's names: SDS, SJC, VSD and SDI."""

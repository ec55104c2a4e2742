"""What a Windows guest does itself at its first start on KVM: planned here, carried out by ``firstboot.c``."""

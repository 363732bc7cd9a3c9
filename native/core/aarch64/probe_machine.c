// Nothing here is peculiar to this machine yet.
#include "probe_child.h"

const struct tl_probe tl_probes_machine[] = {{NULL, NULL}};

from configs import paper_srnn


def get_config():
  return paper_srnn.music('avf', 1, {'name': 'jsb'}, {'num_steps': 300})
